"""What `headrace doctor` looks at: this machine, its packages, the dbt projects and the state; it changes nothing."""
