from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.als import AlsParameters, AlsTrainer
from adapters.factors import FactorRecommender
from application.employers import EmployerLearning
from application.recommending import Models, Recommending
from application.training import (
    MAX_KEY,
    MAX_NOTE,
    LearningPolicy,
    Retraining,
    Training,
    data_health,
)
from domain.employers import (
    Amendments,
    EmployerNotes,
    EmployerText,
    EmployerType,
    EmployerTypes,
)
from domain.errors import (
    DatasetMissing,
    InputError,
    RunMissing,
    SnapshotError,
    TrainingError,
)
from domain.model import (
    ActivityKind,
    ActivityTally,
    Job,
    ReadReport,
    RecommendationSource,
    TimeWindow,
    User,
)
from domain.ports import (
    Begun,
    Busy,
    EmployerLearner,
    JobVectors,
    KeyReused,
    OnProgress,
    Replayed,
)
from domain.promotion import PromotionPolicy
from domain.ranking import RankingPolicy, Unlisted
from domain.runs import FailureKind, RunRequest, RunStatus, TrainingPhase, TrainingRun
from domain.scoring import ScoringPolicy
from tests.fakes import (
    NOON,
    Event,
    FakeActivityLog,
    FakeCatalog,
    FakeLease,
    FakeSnapshotStore,
    FakeTrainingRuns,
    ManualClock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from domain.ports import Arrays, IndexJobs, Lease, Recommender, Trainer
    from domain.runs import Manifest

HOUR = timedelta(hours=1)
PARAMETERS = AlsParameters(factors=4, iterations=3, threads=1)
UNMEASURED = PromotionPolicy(hold_out=0)

READING, EVALUATING, FITTING, WRITING, PROMOTING, ENDED = (
    TrainingPhase.READING,
    TrainingPhase.EVALUATING,
    TrainingPhase.FITTING,
    TrainingPhase.WRITING,
    TrainingPhase.PROMOTING,
    TrainingPhase.ENDED,
)


def at(hours: float) -> float:
    return (NOON + hours * HOUR).timestamp()


FEW = [
    Event(1, 10, ActivityKind.IMPRESSION, at(-5)),
    Event(1, 10, ActivityKind.REDIRECT, at(-4)),
    Event(1, 20, ActivityKind.IMPRESSION, at(-3)),
    Event(2, 20, ActivityKind.APPLY, at(-2)),
    Event(3, 30, ActivityKind.REDIRECT, at(+1)),
    Event(3, 30, ActivityKind.IMPRESSION),
]


def crowd(people: int = 160, jobs: int = 40) -> list[Event]:
    """Return what people do who like the jobs of their own of four fields, in order of time."""
    random = np.random.default_rng(5)
    return [
        Event(
            int(person),
            int(random.integers(jobs // 4)) * 4 + int(person) % 4,
            ActivityKind.REDIRECT,
            at(-200 + turn / 100),
        )
        for turn, person in enumerate(random.integers(people, size=people * 15))
    ]


Watched = list[tuple[TrainingPhase, int, int]]


@dataclass
class Bench:
    """A training with everything outside it in memory; the trainer is the real one."""

    events: list[Event] = field(default_factory=lambda: list(FEW))
    promotion: PromotionPolicy = UNMEASURED
    scoring: ScoringPolicy = field(default_factory=ScoringPolicy.funnel)
    trainer: Trainer = field(default_factory=lambda: AlsTrainer(PARAMETERS))
    snapshots: FakeSnapshotStore = field(default_factory=FakeSnapshotStore)
    learning: LearningPolicy = field(default_factory=lambda: LearningPolicy(seed=7))
    catalog: FakeCatalog = field(
        default_factory=lambda: FakeCatalog([Job(10), Job(20)], [User(1), User(2), User(8)])
    )
    clock: ManualClock = field(default_factory=ManualClock)
    watched: Watched = field(default_factory=list)
    employers: EmployerLearning | None = None
    index_jobs: IndexJobs | None = None

    def __post_init__(self) -> None:
        self.runs = FakeTrainingRuns(self.clock)
        self.log = FakeActivityLog(self.events)
        self.retraining = Retraining(self.runs, lambda _run, _lease: None, self.clock)

    def execute(
        self,
        request: RunRequest | None = None,
        watch: Callable[[TrainingRun, TrainingPhase, int], None] = lambda *_: None,
    ) -> TrainingRun:
        """Begin a run, carry it out as its own process would, and return it."""
        begun = self.runs.begin(request or RunRequest(), "tests", None)
        assert isinstance(begun, Begun)

        def on_progress(phase: TrainingPhase, step: int, total: int) -> None:
            self.watched.append((phase, step, total))
            watch(begun.run, phase, step)

        training = Training(
            runs=self.runs,
            log=self.log,
            catalog=self.catalog,
            trainer=self.trainer,
            make_trainer=_als_by,
            scoring=self.scoring,
            snapshots=self.snapshots,
            models=Models(self.snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays)),
            promotion=self.promotion,
            learning=self.learning,
            clock=self.clock,
            libraries={"als": "1.2.3"},
            employers=self.employers,
            index_jobs=self.index_jobs,
        )
        try:
            return training.execute(begun.run, on_progress)
        finally:
            begun.lease.close()
            self.clock.advance(minutes=1)


def _als_by(parameters: Mapping[str, Any]) -> AlsTrainer:
    return AlsTrainer(
        AlsParameters(**{key: value for key, value in parameters.items() if key != "name"})
    )


def without_repeats(phases: list[TrainingPhase]) -> list[TrainingPhase]:
    return [phase for phase, _ in groupby(phases)]


# A run that succeeds


def test_what_people_did_up_to_their_erasure_is_left_out() -> None:
    bench = Bench([*FEW, Event(1, 40, ActivityKind.REDIRECT, at(+2))])
    bench.catalog.erase_users([1, 3], NOON)

    run = bench.execute()

    arrays = bench.snapshots.open(run.id).arrays
    assert arrays["user_ids"].tolist() == [1, 2, 3]
    assert arrays["job_ids"].tolist() == [20, 30, 40]


def test_who_was_erased_for_good_is_in_no_model() -> None:
    bench = Bench()
    bench.catalog.erase_users([1, 3], NOON + 9 * HOUR)

    run = bench.execute()

    assert bench.snapshots.open(run.id).arrays["user_ids"].tolist() == [2]


def test_a_run_passes_through_its_phases_in_order_and_counts_every_iteration() -> None:
    bench = Bench()
    run = bench.execute()
    assert run.status is RunStatus.SUCCEEDED
    assert without_repeats([phase for phase, _, _ in bench.watched]) == [
        READING,
        FITTING,
        WRITING,
        PROMOTING,
    ]
    fitting = [(step, total) for phase, step, total in bench.watched if phase is FITTING]
    assert fitting == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_runs_record_tells_every_state_in_order() -> None:
    bench = Bench()
    run = bench.execute()
    states = bench.runs.changes(run.id, after=0)
    assert [state.revision for state in states] == list(range(1, len(states) + 1))
    assert without_repeats([state.phase for state in states]) == [
        TrainingPhase.WAITING,
        READING,
        FITTING,
        WRITING,
        PROMOTING,
        ENDED,
    ]
    statuses = [status for status, _ in groupby(state.status for state in states)]
    assert statuses == [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.SUCCEEDED]
    assert [(s.step, s.total_steps) for s in states if s.phase is FITTING][-1] == (3, 3)
    assert states[-1] == run


def test_a_succeeded_run_names_its_model_times_and_parameters() -> None:
    bench = Bench()
    run = bench.execute()
    assert (run.started_at, run.finished_at) == (NOON, NOON)
    assert run.model_version == run.id
    assert run.promoted is True
    assert run.refusals == ()
    assert run.failure is None
    assert run.parameters == {
        "scoring": asdict(ScoringPolicy.funnel()),
        "trainer": AlsTrainer(PARAMETERS).parameters,
        "seed": 7,
    }


def test_a_runs_report_says_what_the_data_held() -> None:
    window = TimeWindow(since=NOON - 4.5 * HOUR)
    report = Bench().execute(RunRequest(window=window)).data_report
    expected = {
        "lines_read": 6,
        "lines_used": 6,
        "lines_rejected": 0,
        "outside_window": 2,  # one too early, one without a time
        "activities": {
            **dict.fromkeys((kind.word for kind in ActivityKind), 0),
            "impression": 1,
            "redirect": 2,
            "apply": 1,
        },
        "pairs": 4,
        "users": 3,
        "jobs": 3,
        "users_with_redirects_never_shown": 1,  # person 3; job 10 was redirected to unseen too
        "jobs_with_redirects_never_shown": 2,
        "users_not_in_catalogue": 1,
        "jobs_not_in_catalogue": 1,
        "pairs_in_the_future": 1,
    }
    assert expected == {name: report[name] for name in expected}
    # Of the people 1, 2 and 8 in the catalogue, the model does not know 8
    assert report["only_fallback"] == pytest.approx(1 / 3)


def test_the_manifest_says_what_the_model_learned_from_and_how() -> None:
    bench = Bench()
    run = bench.execute()
    (manifest,) = bench.snapshots.manifests()
    assert manifest.version == run.id
    assert manifest.trained_at == NOON
    assert (manifest.users, manifest.jobs, manifest.activities) == (3, 3, 6)
    assert (manifest.since, manifest.until) == (NOON - 5 * HOUR, NOON + HOUR)
    assert manifest.seed == 7
    assert manifest.scoring == asdict(ScoringPolicy.funnel())
    assert manifest.trainer == {
        "name": "als",
        "factors": 4,
        "regularization": 0.05,
        "alpha": 2.0,
        "iterations": 3,
    }
    assert manifest.libraries == {"als": "1.2.3"}
    assert manifest.metrics == {}


def test_activities_without_any_time_leave_the_manifest_without_times() -> None:
    bench = Bench([Event(1, 10), Event(2, 20)])
    bench.execute()
    (manifest,) = bench.snapshots.manifests()
    assert (manifest.since, manifest.until) == (None, None)


def test_only_the_activities_in_the_window_are_learned_from() -> None:
    bench = Bench()
    run = bench.execute(RunRequest(window=TimeWindow(NOON - 6 * HOUR, NOON - 2.5 * HOUR)))
    arrays = bench.snapshots.open(run.id).arrays
    assert arrays["user_ids"].tolist() == [1]
    assert arrays["job_ids"].tolist() == [10, 20]


def test_a_run_leaves_a_live_model_that_answers() -> None:
    bench = Bench(crowd())
    run = bench.execute()
    models = Models(bench.snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays))
    models.refresh()
    recommending = Recommending(models, FakeCatalog(), RankingPolicy(Unlisted.SERVE), bench.clock)
    (answer,) = recommending.for_users([5], 10)
    assert answer.model.version == run.id
    assert [item.source for item in answer.items] == [RecommendationSource.PERSONALISED] * 10
    # Person 5 likes the jobs of the field 1, of which there are ten
    assert sum(item.job_id % 4 == 1 for item in answer.items) >= 9


def test_the_same_data_and_seed_leave_the_same_bytes() -> None:
    bench = Bench(crowd())
    first, second = (bench.snapshots.open(bench.execute().id).arrays for _ in range(2))
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in second.items()
    }


def test_older_models_are_removed_but_never_the_live_one_nor_the_one_before_it() -> None:
    bench = Bench(learning=LearningPolicy(keep_models=3))
    versions = [bench.execute().id for _ in range(5)]
    assert versions[:1:-1] == [manifest.version for manifest in bench.snapshots.manifests()]
    assert bench.snapshots.live() == versions[-1]
    assert bench.snapshots.previous() == versions[-2]


# Types of employers


class Learner(EmployerLearner):
    """Puts every employer into one type, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def learn(
        self,
        corpus: Sequence[EmployerText],
        amendments: Amendments,  # noqa: ARG002 - as the port has it
        seed: int,  # noqa: ARG002 - as the port has it
        factors: JobVectors | None,  # noqa: ARG002 - as the port has it
        on_progress: OnProgress,
    ) -> EmployerTypes:
        on_progress(0, 1)
        if self.failure is not None:
            raise self.failure
        n = len(corpus)
        return EmployerTypes(
            keys=tuple(employer.key for employer in corpus),
            names=tuple(employer.name for employer in corpus),
            job_counts=np.ones(n, dtype=np.int64),
            type_of=np.zeros(n, dtype=np.int64),
            vectors=np.ones((n, 1), dtype=np.float32),
            types=(EmployerType("all", ("all",), n, (0,)),),
            job_ids=np.array([employer.job_ids[0] for employer in corpus]),
            employer_of=np.arange(n),
        )


def employer_bench(failure: Exception | None = None, text: str = "We bake.") -> Bench:
    catalog = FakeCatalog([Job(10, employer="Oven Ltd", description=text), Job(20)])
    learning = EmployerLearning(catalog, EmployerNotes, lambda: Learner(failure))
    return Bench(catalog=catalog, employers=learning)


def test_types_of_employers_are_stored_and_go_live_with_the_model() -> None:
    bench = employer_bench()
    run = bench.execute()
    assert run.employers_note is None
    assert TrainingPhase.EMPLOYERS in [phase for phase, *_ in bench.watched]
    models = Models(bench.snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays))
    models.refresh()
    known = models.live.employers
    assert known is not None
    assert known.names == ("Oven Ltd",)


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        (TrainingError("too little"), "too little"),
        (ZeroDivisionError(), "unexpected ZeroDivisionError; the log of the service says more"),
        (MemoryError(), "out of memory"),
    ],
)
def test_a_model_goes_live_without_types_where_learning_them_fails(
    failure: Exception, note: str
) -> None:
    bench = employer_bench(failure)
    run = bench.execute()
    assert (run.promoted, run.employers_note) == (True, note)
    assert "employer_texts" not in bench.snapshots.open(run.id).arrays


def test_without_descriptions_the_phase_is_skipped_with_a_note() -> None:
    bench = employer_bench(text="")
    run = bench.execute()
    assert run.promoted
    assert run.employers_note == "no job with an employer has a description"


# May it go live?


def test_a_model_is_measured_beside_popularity_and_the_live_model() -> None:
    bench = Bench(crowd(), promotion=PromotionPolicy())
    first = bench.execute()
    assert without_repeats([phase for phase, _, _ in bench.watched]) == [
        READING,
        EVALUATING,
        FITTING,
        WRITING,
        PROMOTING,
    ]
    assert "ndcg@10" in first.metrics
    assert "popular/ndcg@10" in first.metrics
    assert not any(name.startswith("live/") for name in first.metrics)
    # People keep to one of four fields, which popularity cannot know
    assert first.metrics["recall@10"] > 1.5 * first.metrics["popular/recall@10"]
    assert bench.snapshots.open(first.id).manifest.metrics == {
        name: value for name, value in first.metrics.items() if "/" not in name
    }
    second = bench.execute()
    assert second.metrics["live/ndcg@10"] == second.metrics["ndcg@10"]
    assert second.promoted is True


def test_with_too_few_people_to_measure_on_a_model_goes_live_unmeasured() -> None:
    run = Bench(promotion=PromotionPolicy()).execute()
    assert (run.status, run.promoted, run.metrics) == (RunStatus.SUCCEEDED, True, {})
    assert run.unmeasured == (
        "0 people did something new in the part held out, at least 50 are needed"
    )


def test_a_model_that_was_not_to_be_measured_says_so() -> None:
    run = Bench(crowd(), promotion=UNMEASURED).execute()
    assert run.unmeasured == "nothing is held out (hold_out is 0)"


def test_times_of_whole_days_are_enough_to_measure_by() -> None:
    days = [event._replace(timestamp=at(place % 4 * 24)) for place, event in enumerate(crowd())]
    run = Bench(days, promotion=PromotionPolicy()).execute()
    assert run.unmeasured is None
    assert run.metrics["recall@10"] > run.metrics["popular/recall@10"]


def test_recipes_are_compared_after_a_few_steps_each() -> None:
    trainer = AlsTrainer(replace(PARAMETERS, iterations=9))
    bench = Bench(crowd(), promotion=PromotionPolicy(max_steps=2), trainer=trainer)
    bench.execute()
    assert last_steps(bench.watched) == {EVALUATING: 2, FITTING: 9}


def test_a_live_model_that_has_not_seen_the_hold_out_is_compared_with_after_all_steps() -> None:
    trainer = AlsTrainer(replace(PARAMETERS, iterations=9))
    events = crowd()
    bench = Bench(events, promotion=PromotionPolicy(max_steps=2), trainer=trainer)
    bench.log.events = events[: len(events) // 2]
    bench.execute()
    bench.watched.clear()
    bench.log.events = events
    run = bench.execute()
    assert last_steps(bench.watched) == {EVALUATING: 9, FITTING: 9}
    assert "live/ndcg@10" in run.metrics


def last_steps(watched: Watched) -> dict[TrainingPhase, int]:
    return {phase: step for phase, step, _ in watched if phase in {EVALUATING, FITTING}}


def test_a_model_that_lost_too_many_people_is_stored_and_does_not_go_live() -> None:
    bench = Bench(crowd())
    before = bench.execute()
    bench.log.events = [event for event in bench.events if event.user_id < 80]
    run = bench.execute()
    assert run.status is RunStatus.SUCCEEDED
    assert run.promoted is False
    assert len(run.refusals) == 1
    assert "knows 80 users, the live model 160" in run.refusals[0]
    assert bench.snapshots.live() == before.id
    assert bench.snapshots.open(run.id).manifest.users == 80


def test_a_model_that_ranks_worse_than_the_live_one_does_not_go_live() -> None:
    bench = Bench(crowd(), promotion=PromotionPolicy(margin=0.05))
    before = bench.execute()
    bench.trainer = AlsTrainer(replace(PARAMETERS, factors=1))
    run = bench.execute()
    assert run.promoted is False
    assert any("ndcg@10" in refusal for refusal in run.refusals)
    assert run.metrics["live/ndcg@10"] == before.metrics["ndcg@10"]
    assert bench.snapshots.live() == before.id


def test_a_refused_model_goes_live_where_the_request_forces_it() -> None:
    bench = Bench(crowd())
    bench.execute()
    bench.log.events = [event for event in bench.events if event.user_id < 80]
    run = bench.execute(RunRequest(force=True))
    assert run.promoted is True
    assert len(run.refusals) == 1
    assert bench.snapshots.live() == run.id


# A run that fails


class BrokenLog(FakeActivityLog):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def tally(self, *_: object) -> Any:
        raise self._error


class BrokenTrainer(AlsTrainer):
    def __init__(self, error: BaseException) -> None:
        super().__init__(PARAMETERS)
        self._error = error

    def fit(self, *_: object) -> Any:
        raise self._error


class BrokenStore(FakeSnapshotStore):
    def __init__(self) -> None:
        super().__init__()
        self.on_write: BaseException | None = None
        self.on_promote: BaseException | None = None

    def write(self, manifest: Manifest, arrays: Arrays) -> None:
        if self.on_write is not None:
            raise self.on_write
        super().write(manifest, arrays)

    def promote(self, version: str) -> None:
        if self.on_promote is not None:
            raise self.on_promote
        super().promote(version)


def broken_at(step: str, error: BaseException) -> tuple[Bench, str]:
    """Return a bench that breaks at a step of its second run, and the version live before it."""
    store = BrokenStore()
    bench = Bench(snapshots=store)
    live = bench.execute().id
    bench.watched.clear()
    match step:
        case "reading":
            bench.log = BrokenLog(error)
        case "fitting":
            bench.trainer = BrokenTrainer(error)
        case "writing":
            store.on_write = error
        case "promoting":
            store.on_promote = error
    return bench, live


STEPS = ["reading", "fitting", "writing", "promoting"]


def assert_failed(run: TrainingRun, bench: Bench, live: str, kind: FailureKind) -> None:
    assert run.status is RunStatus.FAILED
    assert run.failure_kind is kind
    assert run.phase is ENDED
    assert run.finished_at is not None
    assert run.promoted is None
    assert run == bench.runs.get(run.id)
    assert bench.snapshots.live() == live
    assert bench.snapshots.open(live).manifest.version == live
    assert bench.runs.reap() == []


@pytest.mark.parametrize(
    ("step", "error", "kind"),
    [
        ("reading", DatasetMissing("there is no activities.jsonl"), FailureKind.DATA),
        ("fitting", TrainingError("the factors of users are not finite"), FailureKind.TRAINING),
        ("writing", SnapshotError("cannot store 2: the disk is full"), FailureKind.TRAINING),
        ("promoting", SnapshotError("cannot promote 2: the disk is full"), FailureKind.TRAINING),
    ],
)
def test_a_failure_foreseen_ends_the_run_with_its_words_and_the_old_model_stays_live(
    step: str, error: Exception, kind: FailureKind
) -> None:
    bench, live = broken_at(step, error)
    run = bench.execute()
    assert_failed(run, bench, live, kind)
    assert run.failure == str(error)


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_unforeseen_ends_the_run_without_its_words_and_the_old_model_stays_live(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench, live = broken_at(step, ZeroDivisionError("the password is sesame"))
    run = bench.execute()
    assert_failed(run, bench, live, FailureKind.UNEXPECTED)
    assert "ZeroDivisionError" in str(run.failure)
    assert "sesame" not in str(run.failure)
    assert run.id in caplog.text
    assert "sesame" in caplog.text


@pytest.mark.parametrize("step", STEPS)
def test_a_lack_of_memory_ends_the_run_in_words_and_the_old_model_stays_live(step: str) -> None:
    bench, live = broken_at(step, MemoryError())
    run = bench.execute()
    assert_failed(run, bench, live, FailureKind.TRAINING)
    assert run.failure == "the training ran out of memory"


@pytest.mark.parametrize("step", STEPS)
def test_an_interruption_marks_the_run_and_goes_on_to_stop_the_process(step: str) -> None:
    bench, live = broken_at(step, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench.execute()
    (run, _) = bench.runs.recent(2)
    assert run.status is RunStatus.CANCELLED
    assert run.finished_at is not None
    assert bench.snapshots.live() == live


@pytest.mark.parametrize("promotion", [UNMEASURED, PromotionPolicy()])
def test_data_without_activities_fails_the_run_and_says_so(promotion: PromotionPolicy) -> None:
    bench = Bench(promotion=promotion)
    live = bench.execute().id
    bench.log.events = []
    run = bench.execute()
    assert_failed(run, bench, live, FailureKind.DATA)
    assert "nothing to learn" in str(run.failure)


@pytest.mark.parametrize("promotion", [UNMEASURED, PromotionPolicy()])
def test_data_of_which_nothing_scores_fails_the_run_and_says_so(
    promotion: PromotionPolicy,
) -> None:
    bench = Bench(promotion=promotion)
    live = bench.execute().id
    bench.scoring = ScoringPolicy(redirect_weight=0, redirect_floor=0, apply_weight=0)
    bench.log.events = [Event(1, 10, ActivityKind.APPLY), Event(2, 20, ActivityKind.REDIRECT)]
    run = bench.execute()
    assert_failed(run, bench, live, FailureKind.DATA)
    assert "nothing to learn" in str(run.failure)


def test_after_a_failure_the_next_run_succeeds() -> None:
    bench, _ = broken_at("fitting", TrainingError("once"))
    bench.execute()
    bench.trainer = AlsTrainer(PARAMETERS)
    run = bench.execute()
    assert run.status is RunStatus.SUCCEEDED
    assert bench.snapshots.live() == run.id


# A run that somebody stops


@pytest.mark.parametrize(
    ("phase", "step"), [(READING, 0), (FITTING, 0), (FITTING, 2), (WRITING, 0), (PROMOTING, 0)]
)
def test_a_run_cancelled_in_any_phase_stops_there_and_the_old_model_stays_live(
    phase: TrainingPhase, step: int
) -> None:
    bench = Bench()
    live = bench.execute().id
    bench.watched.clear()

    def cancel(run: TrainingRun, now: TrainingPhase, done: int) -> None:
        if (now, done) == (phase, step):
            assert bench.retraining.cancel(run.id)[1]

    run = bench.execute(watch=cancel)
    assert run.status is RunStatus.CANCELLED
    assert run.model_version is None
    assert bench.snapshots.live() == live
    assert bench.watched[-1][0] is phase
    if phase is FITTING:
        assert bench.watched[-1][1] == step
    stored = [manifest.version for manifest in bench.snapshots.manifests()]
    assert (run.id in stored) == (phase is PROMOTING)


def test_a_run_that_fails_after_it_was_cancelled_stays_cancelled() -> None:
    bench = Bench()

    class FailingLate(AlsTrainer):
        def fit(self, *_: object) -> Any:
            bench.retraining.cancel(bench.runs.recent(1)[0].id)
            raise TrainingError("too late to matter")

    bench.trainer = FailingLate(PARAMETERS)
    run = bench.execute()
    assert run.status is RunStatus.CANCELLED
    assert run == bench.runs.recent(1)[0]


def test_an_interruption_after_a_cancellation_still_stops_the_process() -> None:
    bench = Bench()

    class Interrupted(AlsTrainer):
        def fit(self, *_: object) -> Any:
            bench.retraining.cancel(bench.runs.recent(1)[0].id)
            raise KeyboardInterrupt

    bench.trainer = Interrupted(PARAMETERS)
    with pytest.raises(KeyboardInterrupt):
        bench.execute()
    assert bench.runs.recent(1)[0].status is RunStatus.CANCELLED


class StoppedOnceLive(FakeSnapshotStore):
    """Something happens right after a model went live."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[str], None] = lambda _version: None

    def promote(self, version: str) -> None:
        super().promote(version)
        self.then(version)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), ZeroDivisionError()])
def test_a_run_stopped_once_its_model_is_live_has_succeeded(error: BaseException) -> None:
    store = StoppedOnceLive()
    bench = Bench(snapshots=store)

    def stop(_version: str) -> None:
        raise error

    store.then = stop
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            bench.execute()
    else:
        bench.execute()
    (run,) = bench.runs.recent(1)
    assert run.status is RunStatus.SUCCEEDED
    assert run.promoted
    assert run.model_version == run.id == store.live()
    assert run.failure is None


def test_a_run_is_not_cancelled_any_more_once_its_model_is_live() -> None:
    store = StoppedOnceLive()
    bench = Bench(snapshots=store)
    answers = []
    store.then = lambda version: answers.append(bench.retraining.cancel(version)[1])
    run = bench.execute()
    assert answers == [False]
    assert run.status is RunStatus.SUCCEEDED
    assert run.promoted


# Requests


@dataclass
class Office:
    """Retraining with a launch that only takes the lease over, as a process would."""

    takes_over: bool = True
    error: Exception | None = None
    launched: list[TrainingRun] = field(default_factory=list)
    held: list[FakeLease] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.runs = FakeTrainingRuns(self.clock)
        self.retraining = Retraining(self.runs, self.launch, self.clock)

    def launch(self, run: TrainingRun, lease: Lease) -> None:
        if self.error is not None:
            raise self.error
        self.launched.append(run)
        assert isinstance(lease, FakeLease)
        if self.takes_over:
            self.held.append(lease.inherited())


def test_a_request_is_recorded_and_launched_once() -> None:
    office = Office()
    request = RunRequest(note="after the fair", force=True)
    answer = office.retraining.request(request, "an admin", "key 1")
    assert isinstance(answer, Begun)
    assert answer.run.status is RunStatus.QUEUED
    assert answer.run.request == request
    assert (answer.run.requested_by, answer.run.idempotency_key) == ("an admin", "key 1")
    assert office.launched == [answer.run]


def test_the_same_request_under_the_same_key_is_the_run_that_it_was() -> None:
    office = Office()
    begun = office.retraining.request(RunRequest(note="a"), "an admin", "key")
    again = office.retraining.request(RunRequest(note="a"), "another admin", "key")
    assert isinstance(again, Replayed)
    assert again.run == begun.run
    office.runs.update(begun.run.id, status=RunStatus.SUCCEEDED)
    office.held.pop().close()
    later = office.retraining.request(RunRequest(note="a"), "an admin", "key")
    assert isinstance(later, Replayed)
    assert later.run.status is RunStatus.SUCCEEDED
    assert len(office.launched) == 1


def test_another_request_under_the_same_key_is_refused() -> None:
    office = Office()
    begun = office.retraining.request(RunRequest(note="a"), "an admin", "key")
    other = office.retraining.request(RunRequest(note="b"), "an admin", "key")
    assert isinstance(other, KeyReused)
    assert other.run == begun.run
    assert len(office.launched) == 1


def test_while_a_process_trains_others_are_told_which_run_it_is() -> None:
    office = Office()
    begun = office.retraining.request(RunRequest(), "an admin")
    busy = office.retraining.request(RunRequest(), "an admin")
    assert isinstance(busy, Busy)
    assert busy.run.id == begun.run.id
    assert len(office.launched) == len(office.runs.recent(9)) == 1


def test_the_right_to_train_is_left_to_the_process_launched_and_ends_with_it() -> None:
    office = Office()
    first = office.retraining.request(RunRequest(), "an admin")
    office.held.pop().close()
    second = office.retraining.request(RunRequest(), "an admin")
    assert isinstance(second, Begun)
    assert office.runs.get(first.run.id).status is RunStatus.FAILED
    assert len(office.launched) == 2


def test_a_launch_that_fails_marks_the_run_failed_and_gives_the_right_to_train_back() -> None:
    office = Office(error=OSError("no more processes"))
    with pytest.raises(OSError, match="no more processes"):
        office.retraining.request(RunRequest(), "an admin")
    (run,) = office.runs.recent(9)
    assert run.status is RunStatus.FAILED
    assert run.phase is ENDED
    assert run.finished_at == NOON
    assert run.failure == "the training process could not be started: no more processes"
    office.error = None
    assert isinstance(office.retraining.request(RunRequest(), "an admin"), Begun)


def test_a_launch_that_breaks_in_an_unforeseen_way_gives_the_right_to_train_back() -> None:
    office = Office(error=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        office.retraining.request(RunRequest(), "an admin")
    office.error = None
    assert isinstance(office.retraining.request(RunRequest(), "an admin"), Begun)


@pytest.mark.parametrize(
    ("note", "key", "message", "argument"),
    [
        ("n" * 501, None, "note has 501 characters, at most 500", "note"),
        (None, "k" * 201, "idempotencyKey has 201 characters, at most 200", "idempotencyKey"),
        (None, "", "idempotencyKey is empty", "idempotencyKey"),
    ],
)
def test_a_note_or_key_out_of_bounds_is_refused_and_nothing_begins(
    note: str | None, key: str | None, message: str, argument: str
) -> None:
    office = Office()
    with pytest.raises(InputError, match=message) as refused:
        office.retraining.request(RunRequest(note=note), "an admin", key)
    assert refused.value.argument == argument
    assert office.runs.recent(9) == office.launched == []


def test_a_note_and_a_key_as_long_as_the_bound_are_taken() -> None:
    request = RunRequest(note="n" * MAX_NOTE)
    answer = Office().retraining.request(request, "an admin", "k" * MAX_KEY)
    assert isinstance(answer, Begun)


def test_a_run_is_cancelled_once() -> None:
    office = Office()
    run = office.retraining.request(RunRequest(), "an admin").run
    office.clock.advance(minutes=3)
    cancelled, by_this_call = office.retraining.cancel(run.id)
    assert by_this_call
    assert cancelled.status is RunStatus.CANCELLED
    assert cancelled.finished_at == NOON + timedelta(minutes=3)
    office.clock.advance(minutes=3)
    assert office.retraining.cancel(run.id) == (cancelled, False)


def test_cancelling_a_run_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RunMissing, match="20260101T000000Z-abc"):
        Office().retraining.cancel("20260101T000000Z-abc")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"seed": -1}, "seed -1 is not in 0..4294967295"),
        ({"seed": 2**32}, "seed 4294967296 is not in 0..4294967295"),
        ({"keep_models": 0}, "keep_models 0 is below 1"),
    ],
)
def test_a_learning_policy_out_of_bounds_is_refused(policy: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LearningPolicy(**policy)


def test_people_who_never_open_their_emails_are_reported_and_kept() -> None:
    sent, opened, clicked = (
        ActivityKind.EMAIL_SENT,
        ActivityKind.EMAIL_OPEN,
        ActivityKind.EMAIL_CLICK,
    )
    events = [(1, 1, sent), (1, 1, ActivityKind.APPLY), (2, 1, sent), (2, 2, opened)]
    events += [(3, 2, sent), (3, 2, clicked), (4, 2, opened)]
    users, jobs, kinds = zip(*events, strict=True)
    tally = ActivityTally.from_events(users, jobs, kinds, [0.0] * len(events))
    interactions = ScoringPolicy.funnel().interactions(tally)

    report = data_health(tally, interactions, ReadReport("", 7, 7), FakeCatalog(), NOON)

    assert report["users_sent_emails_never_opening"] == 1
    assert interactions.users.ids.tolist() == [1, 3]


# An index of jobs


def test_an_index_lies_beside_the_model_with_what_was_measured_of_it() -> None:
    def index(recommender: Recommender, seed: int) -> tuple[Arrays, dict[str, float]]:
        assert recommender.job_vectors is not None
        return {"index": np.array([len(recommender.job_vectors), seed])}, {"index_recall@10": 0.99}

    bench = Bench(index_jobs=index)

    run = bench.execute()

    stored = bench.snapshots.open(run.id)
    assert stored.arrays["index"].tolist() == [3, 7]
    assert stored.manifest.metrics == run.metrics == {"index_recall@10": 0.99}


@pytest.mark.parametrize("trouble", [RuntimeError("no room"), MemoryError(), InputError("bad")])
def test_without_an_index_there_is_a_model_all_the_same(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_recommender: Recommender, _seed: int) -> tuple[Arrays, dict[str, float]]:
        raise trouble

    run = Bench(index_jobs=fail).execute()

    assert run.promoted
    assert run.metrics == {}
    assert "no index of jobs could be built" in caplog.text
