"""Values for parameters without a default, by component."""

from typing import Any

PARAMETERS: dict[str, dict[str, Any]] = {
    "scheduler:po_chebyshev": {"num_epochs": 8},
    "scheduler:po_cosine": {"t_max": 20, "max_lr": 0.1},
    "scheduler:po_cosine_annealing_warmup_restarts": {"first_cycle_steps": 10, "warmup_steps": 2, "max_lr": 0.1},
    "scheduler:po_linear": {"t_max": 20, "max_lr": 0.1},
    "scheduler:po_wsd": {"num_warmup_steps": 3, "num_stable_steps": 5, "num_decay_steps": 8},
    "scheduler:torch_cosine_annealing_lr": {"T_max": 9},
    "scheduler:torch_cosine_annealing_warm_restarts": {"T_0": 5},
    "scheduler:torch_cyclic_lr": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
    "scheduler:torch_exponential_lr": {"gamma": 0.9},
    "scheduler:torch_multi_step_lr": {"milestones": [3, 7]},
    "scheduler:torch_one_cycle_lr": {"max_lr": 0.1},
    "scheduler:torch_step_lr": {"step_size": 4},
}
