"""Neural architecture search: jobs, costs and limits, evaluators, the methods, and the record of a run."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.search.baseline import random_baseline
    from fbnet_zoo.search.cost import (
        CostMetric,
        additive_cost,
        latency_cost,
        macs_cost,
        measured_cost,
        memory_cost,
        params_cost,
    )
    from fbnet_zoo.search.evaluator import Evaluator
    from fbnet_zoo.search.history import EvaluatedNetwork, HistoryRecord
    from fbnet_zoo.search.job import SearchJob
    from fbnet_zoo.search.method import Context, Method, SearchResult
    from fbnet_zoo.search.methods import METHODS
    from fbnet_zoo.search.networks import NetworkRecord
    from fbnet_zoo.search.oracle import Oracle, read_oracle
    from fbnet_zoo.search.record import SearchRecord, load_record, save_record
    from fbnet_zoo.search.runs import SearchRun, run_search, train_best

__all__ = [
    "METHODS",
    "Context",
    "CostMetric",
    "EvaluatedNetwork",
    "Evaluator",
    "HistoryRecord",
    "Method",
    "NetworkRecord",
    "Oracle",
    "SearchJob",
    "SearchRecord",
    "SearchResult",
    "SearchRun",
    "additive_cost",
    "latency_cost",
    "load_record",
    "macs_cost",
    "measured_cost",
    "memory_cost",
    "params_cost",
    "random_baseline",
    "read_oracle",
    "run_search",
    "save_record",
    "train_best",
]

__getattr__, __dir__ = public_names(
    __name__,
    baseline=("random_baseline",),
    cost=(
        "CostMetric",
        "additive_cost",
        "latency_cost",
        "macs_cost",
        "measured_cost",
        "memory_cost",
        "params_cost",
    ),
    evaluator=("Evaluator",),
    history=(
        "EvaluatedNetwork",
        "HistoryRecord",
    ),
    job=("SearchJob",),
    method=(
        "Context",
        "Method",
        "SearchResult",
    ),
    methods=("METHODS",),
    networks=("NetworkRecord",),
    oracle=(
        "Oracle",
        "read_oracle",
    ),
    record=(
        "SearchRecord",
        "load_record",
        "save_record",
    ),
    runs=(
        "SearchRun",
        "run_search",
        "train_best",
    ),
)
