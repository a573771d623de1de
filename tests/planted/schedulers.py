"""Faults of schedulers."""

from torch.optim.lr_scheduler import LRScheduler

from planted.record import planted
from torchplug import Family

SCHEDULER = Family.SCHEDULER


class Harmonic(LRScheduler):
    """α₀ / (1 + count), with a place for each fault."""

    def get_lr(self):
        return [self.rate_after(initial, self.last_epoch) for initial in self.base_lrs]

    def rate_after(self, initial, count):
        return initial / (1 + count)


@planted(SCHEDULER, "is_a_scheduler", "its `interval` is 'batch': use epoch or step")
class ByBatch(Harmonic):
    interval = "batch"


@planted(SCHEDULER, "first_rate_is_sane", "before the first step the rates are")
class Leaping(Harmonic):
    def rate_after(self, initial, count):
        return 1000 * initial if count == 0 else initial


@planted(SCHEDULER, "rates_stay_sane", "after step 11 of 24 the rates are -")
class Sinking(Harmonic):
    def rate_after(self, initial, count):
        return initial * (1 - count / 10)


@planted(SCHEDULER, "other_settings_stay_numbers", "the setting weight_decay is None, and was 0.05 at the start")
class Discarding(Harmonic):
    def step(self, epoch=None):
        super().step(epoch)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = None if self.last_epoch > 8 else group["weight_decay"]


@planted(SCHEDULER, "groups_keep_their_rates", "beside another group")
class FirstGroup(Harmonic):
    def get_lr(self):
        return [self.rate_after(self.base_lrs[0], self.last_epoch)] * len(self.base_lrs)


@planted(SCHEDULER, "scheduler_state_is_plain", "state_dict does not survive")
class Objects(Harmonic):
    def __init__(self, optimizer):
        self.exact = frozenset({1})
        super().__init__(optimizer)


@planted(SCHEDULER, "scheduler_resumes", "state_dict must hold its progress")
class Forgetful(Harmonic):
    def state_dict(self):
        return {"base_lrs": self.base_lrs}


@planted(SCHEDULER, "works_under_warmup", "compute them from base_lrs and a count")
class ByOptimizerSteps(Harmonic):
    def __init__(self, optimizer):
        self.made = 0
        optimizer.register_step_post_hook(self.counted)
        super().__init__(optimizer)

    def counted(self, *_):
        self.made += 1

    def get_lr(self):
        return [initial / (1 + self.made) for initial in self.base_lrs]


@planted(SCHEDULER, "closed_form_is_step_by_step", "by the closed form")
class TwoForms(Harmonic):
    def rate(self, initial, count):
        return initial / (2 + count)


@planted(SCHEDULER, "one_step_run_works", "ZeroDivisionError")
class Ending(Harmonic):
    def __init__(self, optimizer, *, total_steps: int):
        self.slope = 1 / (total_steps - 1)
        super().__init__(optimizer)


@planted(SCHEDULER, "endless_run_is_refused_or_works", "raise a ValueError that says so")
class Planned(Harmonic):
    def __init__(self, optimizer, *, total_steps: int | None = None):
        self.half = total_steps.bit_length()
        super().__init__(optimizer)


@planted(SCHEDULER, "weights_stay_unchanged", "changes weights or the optimizer's state")
class Decaying(Harmonic):
    def step(self, epoch=None):
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.data.mul_(0.99)
        super().step(epoch)


@planted(SCHEDULER, "early_end_has_a_reason", "resumed, `reason_to_end` says something else")
class Impatient(Harmonic):
    stop_early = True
    asked = 0

    def reason_to_end(self, loss):
        self.asked += 1
        return "asked too often" if self.asked > 4 else None

    def state_dict(self):
        return {key: value for key, value in super().state_dict().items() if key != "asked"}
