"""The hook of the documentation's site: its files are those of the repository, under the same paths.

So a relative link is right on a code host and in the site, and no text is written twice: the READMEs are pages of the
site where they are. What a page links to besides pages, such as a Python module, is copied into the site beside them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "dbt/README.md", "deploy/README.md")
_PATTERNS = ("docs/*.md", "packages/*/README.md", "projects/*/README.md")
_LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the README of each location in the navigation, a new one's too."""
    root = Path(config.config_file_path).parent
    (reference,) = (pages for section in config.nav or () for name, pages in _sections(section) if name == "Reference")
    for readme in sorted(root.glob("projects/*/README.md")):
        reference.append({f"The location {readme.parent.name}": readme.relative_to(root).as_posix()})
    return config


def _sections(entry: Any) -> Iterator[tuple[str, Any]]:
    return iter(entry.items() if isinstance(entry, dict) else ())


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the site: the pages, and the files that they link to.

    A link to what is not there is left out here; `mkdocs build --strict` then reports it with its page.
    """
    root = Path(config.config_file_path).parent
    pages = [root / page for page in _PAGES] + sorted(path for pattern in _PATTERNS for path in root.glob(pattern))
    linked = {
        target
        for page in pages
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if (target := (page.parent / link).resolve()).is_file() and target.is_relative_to(root)
    }
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    of_repository = [
        File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path))
        for path in sorted({*pages, *linked})
    ]
    return Files([*of_theme, *of_repository])
