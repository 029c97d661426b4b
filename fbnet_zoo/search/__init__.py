"""Neural architecture search: jobs, costs and limits, evaluators, the methods, and the record of a run."""
