"""A synthetic data set with the size and the shape of the replaced service's published figures.

`write_demo` draws people with a taste for one or two graduate fields, jobs of those fields, and
the activities between them, and writes the three files that a real installation would be fed
with. The figures of `DemoSize` hold exactly, not on average, so that counts shown in the
documentation can be reproduced by anyone; the tastes are planted, so that a recommender that
learns anything can be told from one that does not.

The same arguments give the same bytes on any machine. Hence the sorts are stable, and whatever
ends up in a file comes from integers and from float operations that IEEE 754 rounds exactly
(`exp` and its kin differ in the last digit between processors; they only shape weights here).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from domain.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Progress = Callable[[int, int], None]

MIN_SCALE = 0.001
MAX_SCALE = 50.0
SPAN = timedelta(days=120)
"""How long before `until` the first activity may lie."""


class Field(NamedTuple):
    """A graduate field: how its jobs are worded and who studies for it."""

    share: float
    """Weight among people and jobs; the weights need not sum to one."""
    category: str
    titles: tuple[str, ...]
    subjects: tuple[str, ...]
    employers: tuple[str, ...]
    """Second halves of the names of employers in this field."""
    duties: tuple[str, ...]
    """Phrases that follow "You will" in a description; `_DUTIES_PER_FIELD` of them."""


# fmt: off
FIELDS: Mapping[str, Field] = {
    "Software engineering": Field(
        16,
        "Technology",
        (
            "Graduate Software Engineer", "Junior Backend Developer", "Graduate Web Developer",
            "Platform Engineering Trainee", "Mobile Developer Internship",
            "Summer Software Placement",
        ),
        ("Computer Science", "Software Engineering", "Computing", "Games Programming"),
        ("Software", "Codeworks", "Cloud Systems"),
        (
            "write and review code in Python, Java or Go",
            "build web services that thousands of people use daily",
            "automate tests and ship small changes several times a day",
            "keep our cloud platform fast, safe and well observed",
            "pair with senior engineers on the design of new features",
            "fix defects at their root and write down what you learn",
            "turn the wishes of users into working software",
            "help to move an older system to modern interfaces",
        ),
    ),
    "Audit and tax": Field(
        13,
        "Business",
        (
            "Audit Trainee", "Graduate Tax Associate", "Trainee Chartered Accountant",
            "Assistant Auditor", "Corporate Tax Internship",
        ),
        ("Accounting and Finance", "Accounting", "Business and Accounting", "Taxation"),
        ("Accountants", "Audit Partners", "Tax Advisers"),
        (
            "visit clients and test their controls and accounts",
            "prepare tax returns for companies and for private clients",
            "study for a chartered accountancy qualification with paid leave",
            "reconcile ledgers and explain every difference you find",
            "draft the financial statements of growing family businesses",
            "advise on value added tax under close supervision",
            "document audit evidence so that a reviewer can follow it",
            "count stock and trace invoices through to the ledger",
        ),
    ),
    "Data": Field(
        11,
        "Technology",
        (
            "Graduate Data Scientist", "Junior Data Analyst", "Data Engineering Trainee",
            "Machine Learning Internship", "Graduate Business Intelligence Analyst",
        ),
        ("Mathematics", "Statistics", "Data Science", "Physics"),
        ("Analytics", "Data Labs", "Insight Systems"),
        (
            "build dashboards that answer the questions of our teams",
            "train and validate models on millions of records",
            "write SQL and Python to clean and join large tables",
            "design experiments and explain their results in plain words",
            "run the pipelines that feed our data warehouse",
            "forecast demand and measure how good the forecast was",
            "find patterns in customer data and question them",
            "present statistics to people who decide on them",
        ),
    ),
    "Law": Field(
        9,
        "Law",
        (
            "Trainee Solicitor", "Graduate Paralegal", "Vacation Scheme, Commercial Law",
            "Legal Assistant", "Training Contract",
        ),
        ("Law", "Law with Politics", "European Law", "Criminology"),
        ("Solicitors", "Legal", "Chambers"),
        (
            "draft contracts and research points of law for partners",
            "prepare bundles and attend hearings with a supervising solicitor",
            "rotate through four seats in our commercial practice",
            "support the due diligence of mergers and acquisitions",
            "interview clients and take clear attendance notes",
            "review leases and report on title to property",
            "follow changes in regulation and brief the team",
            "help to settle disputes before they reach a court",
        ),
    ),
    "Marketing": Field(
        9,
        "Creative",
        (
            "Marketing Graduate", "Digital Marketing Assistant", "Junior Brand Executive",
            "Social Media Internship", "Content and Communications Trainee",
        ),
        ("Marketing", "Media Studies", "English Literature", "Communications"),
        ("Media", "Brands", "Studio"),
        (
            "plan campaigns across search, social media and print",
            "write copy for our newsletters and landing pages",
            "measure what each campaign costs and what it brings",
            "look after the voice of a well loved brand",
            "work with designers on films, posters and packaging",
            "organise events and invite the press to them",
            "research audiences and what they care about",
            "schedule posts and answer the people who reply",
        ),
    ),
    "Investment banking": Field(
        8,
        "Finance",
        (
            "Summer Analyst, Investment Banking", "Graduate Analyst, Capital Markets",
            "Off-cycle Internship, Mergers and Acquisitions", "Spring Insight Week, Markets",
            "Junior Equity Research Analyst",
        ),
        ("Economics", "Finance", "Economics and Econometrics", "Banking and Finance"),
        ("Capital", "Securities", "Merchant Bank"),
        (
            "build valuation models for companies and their divisions",
            "prepare pitch books for mergers and share offerings",
            "follow bond and equity markets from the trading floor",
            "write research notes on listed companies",
            "support deal teams from the first call to closing",
            "price derivatives together with our structuring desk",
            "assess credit risk before we lend",
            "analyse cash flows, balance sheets and comparable deals",
        ),
    ),
    "Mechanical engineering": Field(
        7,
        "Engineering",
        (
            "Graduate Mechanical Engineer", "Manufacturing Engineering Trainee",
            "Design Engineer Placement", "Graduate Automotive Engineer",
            "Junior Process Engineer",
        ),
        (
            "Mechanical Engineering", "Aerospace Engineering", "Automotive Engineering",
            "Mechatronics",
        ),
        ("Engineering", "Dynamics", "Motion Works"),
        (
            "design parts in CAD and follow them to production",
            "run stress and thermal simulations of new assemblies",
            "test prototypes of pumps, gearboxes and drives",
            "improve a production line and cut its waste",
            "specify materials, tolerances and surface treatments",
            "plan maintenance for heavy rotating machinery",
            "commission equipment at the sites of customers",
            "investigate failures and redesign what broke",
        ),
    ),
    "Consulting": Field(
        7,
        "Business",
        (
            "Graduate Management Consultant", "Associate Consultant",
            "Business Analyst, Strategy", "Consulting Summer Internship",
        ),
        ("Business Management", "International Business", "Philosophy and Economics", "Management"),
        ("Consulting", "Strategy Group", "Advisory"),
        (
            "work in small teams at the offices of clients",
            "structure open problems and test hypotheses against facts",
            "size markets and map the moves of competitors",
            "interview managers and turn notes into recommendations",
            "plan the reorganisation of public and private bodies",
            "present slides that lead to a decision",
            "cost the options of a transformation programme",
            "coach clients through the first months of change",
        ),
    ),
    "Teaching": Field(
        6,
        "Public service",
        (
            "Trainee Teacher, Secondary", "Primary Teaching Assistant", "Graduate Maths Tutor",
            "Early Career Teacher",
        ),
        ("Education", "Primary Education", "History", "Modern Languages"),
        ("Academy Trust", "Schools", "Learning"),
        (
            "plan and teach lessons with a mentor at your side",
            "support pupils with special educational needs",
            "mark work and give feedback that helps pupils improve",
            "earn qualified teacher status within one school year",
            "run a club or a reading group after school",
            "speak with parents about the progress of their children",
            "tutor small groups before their examinations",
            "prepare a calm and curious classroom every morning",
        ),
    ),
    "Civil engineering": Field(
        5,
        "Engineering",
        (
            "Graduate Civil Engineer", "Assistant Structural Engineer",
            "Site Engineering Placement", "Graduate Quantity Surveyor",
        ),
        ("Civil Engineering", "Structural Engineering", "Quantity Surveying", "Architecture"),
        ("Infrastructure", "Construction", "Bridges"),
        (
            "set out works on site and check their levels",
            "design drainage, roads and retaining walls",
            "model concrete and steel structures to national codes",
            "inspect bridges and report on their condition",
            "price bills of quantities and follow costs on site",
            "coordinate contractors and keep a safe site",
            "assess flood risk for new housing",
            "work towards chartership with a named mentor",
        ),
    ),
    "Life sciences": Field(
        5,
        "Science",
        (
            "Graduate Laboratory Scientist", "Clinical Trials Assistant",
            "Pharmaceutical Research Placement", "Regulatory Affairs Trainee",
        ),
        ("Biomedical Science", "Pharmacology", "Chemistry", "Biology"),
        ("Pharma", "Biosciences", "Therapeutics"),
        (
            "run assays and record results to laboratory standards",
            "prepare samples and look after analytical instruments",
            "coordinate clinical trials with hospitals and patients",
            "compile dossiers for the approval of medicines",
            "develop formulations and test how stable they are",
            "analyse cell cultures under sterile conditions",
            "monitor the safety of medicines already on sale",
            "publish findings together with our research group",
        ),
    ),
    "Human resources": Field(
        4,
        "Business",
        (
            "Human Resources Graduate", "Recruitment Trainee", "Junior Talent Partner",
            "People Operations Assistant",
        ),
        ("Human Resource Management", "Psychology", "Sociology", "Business Psychology"),
        ("People", "Talent", "Recruitment"),
        (
            "screen applications and arrange fair interviews",
            "welcome new colleagues and plan their first weeks",
            "answer questions on pay, leave and policies",
            "organise training and measure whether it helps",
            "advise managers on employee relations cases",
            "run assessment centres for early careers",
            "keep personnel records accurate and confidential",
            "research pay levels and write job descriptions",
        ),
    ),
}
"""The planted fields; `degree_subject_groups[0]` of a person is one of these names."""
# fmt: on


@dataclass(frozen=True)
class DemoSize:
    """The counted facts of a data set; `write_demo` meets them exactly.

    Below a scale of about 0.02 a handful of people cannot honour the extremes (`top_...`,
    `second_...`) and `pairs`; these are then approached, and everything else is still exact.

    Attributes:
        users: People in the users file.
        active_users: People with any activity.
        impression_users: People with impressions.
        redirect_users: People with redirects.
        active_jobs: Jobs with any activity.
        listed_jobs: Jobs in the jobs file, all of them active.
        redirect_only_jobs: Jobs with redirects and never an impression.
        impressions: Lines of this type.
        redirects: Lines of this type.
        pairs: Distinct (person, job) pairs, to within a percent.
        top_user_impressions: Impressions of the busiest person.
        second_user_impressions: Impressions of the one who follows.
        top_job_impressions: Impressions of the most seen job.
        top_job_redirects: Redirects of the job with most of them.
        top_pair_impressions: Impressions of the pair with most of them.
        top_pair_redirects: Redirects of the pair with most of them.
    """

    users: int
    active_users: int
    impression_users: int
    redirect_users: int
    active_jobs: int
    listed_jobs: int
    redirect_only_jobs: int
    impressions: int
    redirects: int
    pairs: int
    top_user_impressions: int
    second_user_impressions: int
    top_job_impressions: int
    top_job_redirects: int
    top_pair_impressions: int
    top_pair_redirects: int

    @property
    def redirect_only_users(self) -> int:
        """People with redirects and never an impression."""
        return self.active_users - self.impression_users

    @classmethod
    def reference(cls) -> DemoSize:
        """The figures published for the replaced service."""
        return cls(
            users=95_600,
            active_users=17_229,
            impression_users=16_416,
            redirect_users=11_562,
            active_jobs=7_473,
            listed_jobs=7_184,
            redirect_only_jobs=22,
            impressions=301_517,
            redirects=81_298,
            pairs=228_000,
            top_user_impressions=3_038,
            second_user_impressions=773,
            top_job_impressions=1_842,
            top_job_redirects=819,
            top_pair_impressions=181,
            top_pair_redirects=31,
        )

    @classmethod
    def scaled(cls, scale: float) -> DemoSize:
        """The published figures, enlarged or reduced.

        Totals follow the scale. Means per person and per job do not depend on it, and the
        distance of an extreme from its mean grows slower than the set does: with its square root
        below the reference, as the maximum of a heavy tail would, and more slowly above, where
        the published extremes are already those of automated visitors.

        Args:
            scale: Size relative to the reference, `MIN_SCALE` to `MAX_SCALE`.

        Raises:
            InputError: The scale is out of bounds.
        """
        if not MIN_SCALE <= scale <= MAX_SCALE:
            raise InputError(f"scale must be between {MIN_SCALE} and {MAX_SCALE}, got {scale}")
        full = cls.reference()
        growth: float = scale**0.5 if scale < 1 else scale**0.25

        def total(count: int) -> int:
            return max(1, round(count * scale))

        def extreme(top: int, events: int, holders: int, least: int = 0) -> int:
            mean = events / holders
            return max(least, round(mean + (top - mean) * growth))

        impressions, redirects = total(full.impressions), total(full.redirects)
        impression_users = total(full.impression_users)
        active_users = impression_users + total(full.redirect_only_users)
        redirect_only_jobs = total(full.redirect_only_jobs)
        active_jobs = total(full.active_jobs)
        per_user = full.impressions, full.impression_users
        top_user = min(extreme(full.top_user_impressions, *per_user), impressions // 6)
        return cls(
            users=total(full.users),
            active_users=active_users,
            impression_users=impression_users,
            redirect_users=total(full.redirect_users),
            active_jobs=active_jobs,
            listed_jobs=total(full.listed_jobs),
            redirect_only_jobs=redirect_only_jobs,
            impressions=impressions,
            redirects=redirects,
            # in a small set the fields have too few jobs for people to keep to them otherwise
            pairs=min(
                total(full.pairs),
                max(2 * active_users, impression_users * active_jobs // 20),
            ),
            top_user_impressions=top_user,
            second_user_impressions=min(
                extreme(full.second_user_impressions, *per_user), top_user - 1
            ),
            top_job_impressions=extreme(
                full.top_job_impressions, full.impressions, full.active_jobs
            ),
            top_job_redirects=extreme(full.top_job_redirects, full.redirects, full.active_jobs),
            top_pair_impressions=extreme(
                full.top_pair_impressions, full.impressions, full.pairs, least=12
            ),
            top_pair_redirects=extreme(
                full.top_pair_redirects, full.redirects, full.pairs, least=6
            ),
        )


@dataclass(frozen=True)
class DemoSummary:
    """What `write_demo` wrote: lines of each kind, and who and what they concern."""

    users: int
    jobs: int
    impressions: int
    redirects: int
    applies: int
    active_users: int
    active_jobs: int


def write_demo(
    folder: Path,
    *,
    scale: float = 1.0,
    seed: int = 42,
    until: datetime,
    applies: int = 0,
    on_progress: Progress | None = None,
) -> DemoSummary:
    """Write `activities.jsonl`, `jobs.jsonl` and `users.jsonl`, and what was planted.

    `truth.jsonl` holds lines of a taste, people who have it and jobs that suit it; a taste may
    take several lines. Nothing learns from it: it is there to judge by.

    The files appear under these names when all of them are whole; files of an earlier run are
    replaced. The applies are drawn last, so that asking for them leaves all other lines alone.

    Args:
        folder: Where to write; made if missing.
        scale: Size relative to the published figures, `MIN_SCALE` to `MAX_SCALE`.
        seed: Zero or more. The same scale, seed and `until` give the same bytes.
        until: The end of the recorded time, with a time zone. The activities lie in the `SPAN`
            before it; no job is posted after it, and about a third of the jobs closed before it.
        applies: How many applies to add, each after a redirect of its own, at most as many as
            there are redirects.
        on_progress: Called with the lines written so far and in all, after each block.

    Returns:
        The counts of what was written.

    Raises:
        InputError: An argument is out of its bounds.
        OSError: The folder cannot be written to.
    """
    size = DemoSize.scaled(scale)
    _check(folder, size, seed, until, applies)
    people_rng, history_rng, text_rng = np.random.default_rng(seed).spawn(3)
    end = (until - _EPOCH) // timedelta(seconds=1) * _SECOND
    people = _draw_people(people_rng, size, until.astimezone(UTC).year)
    jobs = _draw_jobs(history_rng, size, end)
    events = _draw_events(history_rng, size, people, jobs, applies)
    progress = _LineCount(len(events.time) + size.listed_jobs + size.users, on_progress)
    _write_files(
        folder,
        {
            "activities.jsonl": progress.through(_activity_lines(events, people, jobs)),
            "jobs.jsonl": progress.through(_job_lines(text_rng, size, jobs)),
            "users.jsonl": progress.through(_user_lines(people)),
            "truth.jsonl": _truth_lines(people, jobs),
        },
    )
    return DemoSummary(
        users=size.users,
        jobs=size.listed_jobs,
        impressions=size.impressions,
        redirects=size.redirects,
        applies=applies,
        active_users=size.active_users,
        active_jobs=size.active_jobs,
    )


def field_of_title(title: str) -> str | None:
    """The planted field of a job, read back from its title.

    Args:
        title: A title from the jobs file.

    Returns:
        A key of `FIELDS`, or None for a title that is not of this module's making.
    """
    return _FIELD_BY_TITLE.get(title.partition(_TITLE_SUFFIX)[0])


# --- Drawing people, jobs and what happened between them -----------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR, _LAST_YEAR = 1975, 9000
# Times are whole milliseconds since the epoch.
_SECOND = 1_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR

_IMPRESSION, _REDIRECT, _APPLY = 0, 1, 2
_KINDS = ("impression", "redirect", "apply")

_TASTE = 0.77
"""Share of a person's pairs drawn from the own fields; redirects end up higher."""
_HAS_SECOND_FIELD = 0.3
"""Share of people with a second field."""
_SECOND_FIELD = 0.2
"""Share of the second field in the own-field pairs of those who have one."""
_OWN_FIELD_REDIRECT = 2.0
"""How much likelier a redirect is on a job of an own field."""
_IMPRESSIONS_PER_PAIR = 1.6
"""Of the busiest; the others see most of their jobs once."""
_NO_FIELD = -1


@dataclass(frozen=True)
class _People:
    """Everyone in the users file by row; `active` maps the index used in pairs to a row.

    Active people with an impression come first, led by the two busiest; those who only ever
    redirect come last.
    """

    field: Ints
    second_field: Ints
    active: Ints
    columns: Mapping[str, Sequence[Any]]
    """Plain attributes, independent of the fields and of each other."""
    subject: Ints


@dataclass(frozen=True)
class _Jobs:
    """The active jobs, ordered by field and, within it, from the most to the least popular."""

    field: Ints
    weight: Floats
    """Popularity; zero for those that are seen once or never."""
    redirect_only: Bools
    posted: Ints
    closes: Ints
    start: Ints
    """The earliest time of an activity."""
    end: Ints
    """The latest time of an activity."""
    number: Ints
    """What the id is made of; in no relation to the order."""
    listed: Bools


@dataclass(frozen=True)
class _Pairs:
    """Distinct (person, job) pairs, and when the two first met."""

    user: Ints
    job: Ints
    time: Ints


@dataclass(frozen=True)
class _Events:
    """Activities in the order of time; `user` and `job` index `_People.active` and `_Jobs`."""

    time: Ints
    user: Ints
    job: Ints
    kind: NDArray[np.int8]


def _check(folder: Path, size: DemoSize, seed: int, until: datetime, applies: int) -> None:
    """Refuse arguments that cannot be met, before anything is drawn or written."""
    if seed < 0:
        raise InputError(f"seed must be 0 or more, got {seed}")
    if until.utcoffset() is None:
        raise InputError(f"until must carry a time zone, got {until.isoformat()}")
    if not _FIRST_YEAR <= until.year <= _LAST_YEAR:
        raise InputError(
            f"until must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}, got {until.isoformat()}"
        )
    if not 0 <= applies <= size.redirects:
        raise InputError(
            f"applies must be between 0 and the {size.redirects} redirects, got {applies}"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"folder must be a directory, got the file {folder}")


def _draw_people(rng: np.random.Generator, size: DemoSize, year: int) -> _People:
    """Draw the people; who is active does not depend on what they are like."""
    n = size.users
    field = _pick(rng, [field.share for field in FIELDS.values()], n)
    other = (field + rng.integers(1, len(FIELDS), n)) % len(FIELDS)
    languages = [[_LANGUAGES[0]], *([_LANGUAGES[0], other] for other in _LANGUAGES[1:])]
    return _People(
        field=field,
        second_field=np.where(rng.random(n) < _HAS_SECOND_FIELD, other, _NO_FIELD),
        active=rng.permutation(size.active_users),
        subject=rng.integers(0, _SUBJECTS_PER_FIELD, n),
        columns={
            "ethnicity": _words(rng, _ETHNICITIES, n),
            "gender": _words(rng, _GENDERS, n),
            "graduation_year": [year + int(late) for late in rng.integers(-2, 3, n)],
            "school_type": _words(rng, _SCHOOL_TYPES, n),
            "languages": _words(rng, languages, n),
            "university": _words(rng, _UNIVERSITIES, n),
        },
    )


def _draw_jobs(rng: np.random.Generator, size: DemoSize, end: int) -> _Jobs:
    """Draw the jobs, their popularity (like 1 / rank in the field) and the time they are open."""
    n = size.active_jobs
    field = np.sort(_pick(rng, [field.share for field in FIELDS.values()], n))
    # the offset grows with the field, as otherwise its first jobs would get all there is to get
    weight = 1.0 / (_ordinal(field) + 2 + np.bincount(field)[field] / 700)
    shuffled = rng.permutation(n)
    redirect_only = np.zeros(n, dtype=np.bool_)
    redirect_only[shuffled[: size.redirect_only_jobs]] = True
    # some are seen exactly once
    quiet = shuffled[size.redirect_only_jobs :][: max(1, n // 100)]
    weight[redirect_only] = 0.0
    weight[quiet] = 0.0
    listed = np.zeros(n, dtype=np.bool_)
    listed[rng.permutation(n)[: size.listed_jobs]] = True

    closed = rng.random(n) < 1 / 3
    # whole seconds, as the jobs file gives them
    closes = np.where(
        closed,
        end - rng.integers(_HOUR // _SECOND, 105 * _DAY // _SECOND, n) * _SECOND,
        end + rng.integers(1, SPAN // timedelta(seconds=1), n) * _SECOND,
    )
    posted = np.where(
        closed,
        closes - rng.integers(20 * _DAY // _SECOND, 90 * _DAY // _SECOND, n) * _SECOND,
        end - rng.integers(2 * _DAY // _SECOND, 180 * _DAY // _SECOND, n) * _SECOND,
    )
    return _Jobs(
        field=field,
        weight=weight,
        redirect_only=redirect_only,
        posted=posted,
        closes=closes,
        start=np.maximum(posted, end - SPAN // timedelta(milliseconds=1)),
        end=np.minimum(closes, end),
        number=rng.permutation(n) + 1,
        listed=listed,
    )


def _draw_events(
    rng: np.random.Generator, size: DemoSize, people: _People, jobs: _Jobs, applies: int
) -> _Events:
    """Draw who met which job, then how often, then when."""
    degrees = _draw_degrees(rng, size, jobs)
    redirecting = _draw_redirecting(rng, size, degrees)
    pairs = _draw_pairs(rng, people, jobs, degrees, size, redirecting)
    own = _is_own_field(people, jobs, pairs)
    impressions = _draw_impressions(rng, size, jobs, pairs)
    redirects = _draw_redirects(rng, size, jobs, pairs, own, redirecting)
    return _draw_times(rng, pairs, jobs, impressions, redirects, applies)


def _draw_degrees(rng: np.random.Generator, size: DemoSize, jobs: _Jobs) -> Ints:
    """Draw how many distinct jobs each active person meets, at least one.

    Returns:
        Counts of shape (active_users,). The two busiest come first.
    """
    n, seers = size.active_users, size.impression_users
    most = max(1, int(np.count_nonzero(jobs.weight) * 0.8))
    top, second = size.top_user_impressions, size.second_user_impressions
    # the last bound matters in small sets only: two people must not have most of the pairs
    limit = np.full(n, min(most, int(second / _IMPRESSIONS_PER_PAIR), size.pairs // 16))
    limit[0] = min(most, int(top / _IMPRESSIONS_PER_PAIR), size.pairs // 8)
    limit[seers - max(1, seers // 100) : seers] = 1  # some see exactly one job
    weight = rng.lognormal(0.0, 1.25, n)
    weight[:2] = 0.0
    degrees = np.ones(n, dtype=np.int64)
    degrees[:2] = limit[:2]
    # people who never come by an impression leave few traces
    few = np.arange(seers, n)
    limit[few] = np.minimum(limit[few], 12)
    degrees[few] += _scatter(rng, weight[few], len(few) * 5 // 4, [(few - seers, limit[few] - 1)])
    weight[few] = 0.0
    left = size.pairs - int(degrees.sum())
    return degrees + _scatter(rng, weight, left, [(np.arange(n), limit - degrees)])


def _draw_redirecting(rng: np.random.Generator, size: DemoSize, degrees: Ints) -> Bools:
    """Choose who redirects: of those with impressions, rather the ones who meet many jobs."""
    seers = size.impression_users
    reluctance = rng.random(seers) * (1.0 + 4.0 / degrees[:seers])
    chosen = np.argsort(reluctance, kind="stable")[: size.redirect_users - size.redirect_only_users]
    redirecting = np.ones(size.active_users, dtype=np.bool_)
    redirecting[:seers] = False
    redirecting[chosen] = True
    return redirecting


def _draw_pairs(
    rng: np.random.Generator,
    people: _People,
    jobs: _Jobs,
    degrees: Ints,
    size: DemoSize,
    redirecting: Bools,
) -> _Pairs:
    """Match every person with as many distinct jobs as `degrees` says.

    First each job is given one person, so that none is left out; then the other places are filled
    by taste, popularity and by what is open while the person is looking. The jobs that are never
    seen come on top.
    """
    user = np.repeat(np.arange(len(degrees)), degrees)
    time = _draw_visits(rng, degrees, jobs)
    job = np.full(len(user), -1)
    field = people.field[people.active]

    seen = np.flatnonzero(~jobs.redirect_only)
    places = _first_places(rng, field[user[user < size.impression_users]], jobs.field[seen])
    job[places] = seen
    room = np.where(jobs.weight > 0, int(0.7 * (size.top_job_impressions - 1)), 1)
    room[seen] -= 1
    _fill_places(rng, people, jobs, user, time, job, room)

    hidden = np.flatnonzero(jobs.redirect_only)
    times = rng.integers(1, 4, len(hidden))
    times[0] = 1  # so that the fewest redirects of a job are one
    hidden = np.repeat(hidden, times)
    visitors = rng.permutation(np.flatnonzero(redirecting))[: len(hidden)]
    kept = job >= 0  # all, but for the smallest sets
    user = np.concatenate([user[kept], visitors])
    job = np.concatenate([job[kept], hidden[: len(visitors)]])
    time = np.concatenate([time[kept], np.zeros(len(visitors), dtype=np.int64)])
    return _Pairs(user, job, _while_open(rng, jobs, job, time))


def _draw_visits(rng: np.random.Generator, degrees: Ints, jobs: _Jobs) -> Ints:
    """Draw the time at which each place of a person is filled, in a few sittings of one search.

    Returns:
        Times of shape (sum of degrees,), grouped by person.
    """
    first, last = int(jobs.start.min()), int(jobs.end.max())
    sittings = 1 + np.minimum(np.sqrt(degrees).astype(np.int64) // 2, 20)
    search = np.minimum(3 * _DAY * sittings, 100 * _DAY)
    search_start = first + rng.integers(0, last - _HOUR - first - search)
    owner = np.repeat(np.arange(len(degrees)), sittings)
    sitting_start = search_start[owner] + rng.integers(0, search[owner])
    place_owner = np.repeat(np.arange(len(degrees)), degrees)
    earlier = np.cumsum(sittings) - sittings
    chosen = earlier[place_owner] + rng.integers(0, sittings[place_owner])
    times: Ints = sitting_start[chosen] + rng.integers(0, 45 * _MINUTE, len(chosen))
    return times


def _first_places(rng: np.random.Generator, place_field: Ints, job_field: Ints) -> Ints:
    """Choose one place for each job, of a person of its field as long as there are any.

    Args:
        rng: Source of chance.
        place_field: Field of the person who holds each place.
        job_field: Field of each job, ascending; not more jobs than places.

    Returns:
        Distinct places, one per job.
    """
    shuffled = rng.permutation(len(place_field))
    by_field = shuffled[np.argsort(place_field[shuffled], kind="stable")]
    first = np.searchsorted(place_field[by_field], np.arange(len(FIELDS) + 1))
    wanted = first[job_field] + _ordinal(job_field)
    met = wanted < first[job_field + 1]
    places = np.full(len(job_field), -1)
    places[met] = by_field[wanted[met]]
    free = np.ones(len(place_field), dtype=np.bool_)
    free[places[met]] = False
    places[~met] = shuffled[free[shuffled]][: np.count_nonzero(~met)]
    return places


def _fill_places(
    rng: np.random.Generator,
    people: _People,
    jobs: _Jobs,
    user: Ints,
    time: Ints,
    job: Ints,
    room: Ints,
) -> None:
    """Fill the places whose `job` is still -1, by drawing again whatever does not fit.

    A person who does not find a job for a place becomes less choosy with every few attempts:
    comes back at another time, then looks at any job. A place that stays empty after the last
    attempt keeps its -1.

    Args:
        rng: Source of chance.
        people: Whose tastes to follow.
        jobs: What there is to be met.
        user: The person of each place.
        time: The time of each place.
        job: The job of each place, filled in here.
        room: How many more people each job may meet, reduced here.
    """
    taken = np.sort(_keys(user, job, jobs)[job >= 0])
    pending = np.flatnonzero(job < 0)
    for attempt in range(90):
        if not pending.size:
            return
        who = user[pending]
        found = _draw_by_taste(rng, people, jobs, who, choosy=attempt < 12)
        fits = jobs.weight[found] > 0
        if attempt < 6:
            fits &= _is_open(jobs, found, time[pending])
        key = _keys(who, found, jobs)
        fits &= ~_is_in(key, taken)
        fits[fits] = _ordinal(key[fits]) == 0
        if attempt < 60:
            fits[fits] = _ordinal(found[fits]) < room[found[fits]]
        job[pending[fits]] = found[fits]
        room -= np.bincount(found[fits], minlength=len(room))
        # a stable sort merges what is already in order
        taken = np.sort(np.concatenate([taken, np.sort(key[fits])]), kind="stable")
        pending = pending[~fits]


def _draw_by_taste(
    rng: np.random.Generator, people: _People, jobs: _Jobs, user: Ints, *, choosy: bool
) -> Ints:
    """Draw a job for each person: by field and popularity, or any if they are not choosy."""
    n = len(user)
    if not choosy:
        return rng.integers(0, len(jobs.field), n)
    row = people.active[user]
    second = people.second_field[row]
    use_second = (second != _NO_FIELD) & (rng.random(n) < _SECOND_FIELD)
    field = np.where(use_second, second, people.field[row])
    cumulative = np.concatenate([[0.0], np.cumsum(jobs.weight)])
    edge = cumulative[np.searchsorted(jobs.field, np.arange(len(FIELDS) + 1))]
    low, high = edge[field], edge[field + 1]
    anywhere = (rng.random(n) >= _TASTE) | (high <= low)
    low = np.where(anywhere, 0.0, low)
    high = np.where(anywhere, cumulative[-1], high)
    found = np.searchsorted(cumulative[1:], low + rng.random(n) * (high - low), side="right")
    # rounding may carry the sum past the last job
    return np.asarray(np.minimum(found, len(jobs.field) - 1))


def _draw_impressions(rng: np.random.Generator, size: DemoSize, jobs: _Jobs, pairs: _Pairs) -> Ints:
    """Draw the impressions of each pair: the extremes first, then the others below them."""
    seen = (pairs.user < size.impression_users) & ~jobs.redirect_only[pairs.job]
    degree = np.bincount(pairs.job[seen], minlength=size.active_jobs)
    top_job = int(np.argmax(degree))
    once = (jobs.weight == 0) | (degree == 0)
    tally = _Tally(
        pairs,
        total=size.impressions,
        counts=seen.astype(np.int64),
        weight=np.where(seen, rng.pareto(2.2, len(seen)), 0.0),
        pair_limit=np.full(len(seen), size.top_pair_impressions - 1),
        user_limit=np.full(size.active_users, size.second_user_impressions - 1),
        job_limit=np.where(once, 1, size.top_job_impressions - 1),
    )
    few = max(1, size.impression_users // 100)
    tally.user_limit[size.impression_users - few : size.impression_users] = 1
    tally.user_limit[:2] = size.top_user_impressions, size.second_user_impressions
    tally.job_limit[top_job] = size.top_job_impressions

    tally.fill_top_pair(rng, size.top_pair_impressions, (pairs.user > 1) & (pairs.job != top_job))
    tally.fill(rng, size.top_user_impressions, pairs.user == 0)
    tally.fill(rng, size.second_user_impressions, pairs.user == 1)
    tally.fill(rng, size.top_job_impressions, pairs.job == top_job)
    tally.complete(rng)
    return tally.counts


def _draw_redirects(
    rng: np.random.Generator,
    size: DemoSize,
    jobs: _Jobs,
    pairs: _Pairs,
    own: Bools,
    redirecting: Bools,
) -> Ints:
    """Draw the redirects of each pair: one for everyone who redirects, the extremes, the others."""
    n = len(own)
    hidden = jobs.redirect_only[pairs.job]
    eager = rng.exponential(1.0, size.active_users) + 0.2
    weight = rng.exponential(1.0, n) * eager[pairs.user] * np.where(own, _OWN_FIELD_REDIRECT, 1.0)
    weight[~redirecting[pairs.user]] = 0.0
    counts = ((pairs.user >= size.impression_users) | hidden).astype(np.int64)
    counts[_best_of_each(pairs.user, weight)] = 1
    counts[~redirecting[pairs.user]] = 0
    degree = np.bincount(pairs.job[weight > 0], minlength=size.active_jobs)
    top_job = int(np.argmax(degree))
    tally = _Tally(
        pairs,
        total=size.redirects,
        counts=counts,
        weight=weight,
        pair_limit=np.where(hidden, 1, size.top_pair_redirects - 1),
        user_limit=np.full(size.active_users, size.redirects),
        job_limit=np.full(size.active_jobs, size.top_job_redirects - 1),
    )
    tally.job_limit[top_job] = size.top_job_redirects
    tally.fill_top_pair(rng, size.top_pair_redirects, ~hidden & (pairs.job != top_job))
    tally.fill(rng, size.top_job_redirects, pairs.job == top_job)
    tally.complete(rng)
    return tally.counts


def _draw_times(
    rng: np.random.Generator,
    pairs: _Pairs,
    jobs: _Jobs,
    impressions: Ints,
    redirects: Ints,
    applies: int,
) -> _Events:
    """Give every activity its time: impression before redirect before apply, all while open."""
    # the last minutes before a job closes are kept for the apply that may follow a redirect
    reach = np.minimum(jobs.end[pairs.job] - 20 * _MINUTE - pairs.time, 14 * _DAY)
    seen = np.repeat(np.arange(len(impressions)), impressions)
    later = _ordinal(seen) > 0
    seen_time = pairs.time[seen]
    seen_time[later] += _draw_gaps(rng, reach[seen[later]])
    went = np.repeat(np.arange(len(redirects)), redirects)
    later = _ordinal(went) > 0
    went_time = pairs.time[went] + rng.integers(5 * _SECOND, 15 * _MINUTE, len(went))
    went_time[later] = pairs.time[went[later]] + _draw_gaps(rng, reach[went[later]])
    chosen = rng.permutation(len(went))[:applies]
    applied_time = went_time[chosen] + rng.integers(_MINUTE, 15 * _MINUTE, applies)

    time = np.concatenate([seen_time, went_time, applied_time])
    pair = np.concatenate([seen, went, went[chosen]])
    kind = np.repeat(
        np.array([_IMPRESSION, _REDIRECT, _APPLY], dtype=np.int8), [len(seen), len(went), applies]
    )
    order = np.argsort(time, kind="stable")
    pair = pair[order]
    return _Events(time[order], pairs.user[pair], pairs.job[pair], kind[order])


def _draw_gaps(rng: np.random.Generator, reach: Ints) -> Ints:
    """Draw how long after the first meeting a repetition comes: the same hour, or days."""
    n = len(reach)
    soon = rng.integers(5 * _SECOND, 35 * _MINUTE, n)
    u = rng.random(n)
    days = 5 * _SECOND + (u * u * (reach - 5 * _SECOND)).astype(np.int64)
    return np.where(rng.random(n) < 0.6, soon, days)


class _Tally:
    """Counts per pair that grow at random to a total, limited per pair, per person and per job."""

    def __init__(
        self,
        pairs: _Pairs,
        *,
        total: int,
        counts: Ints,
        weight: Floats,
        pair_limit: Ints,
        user_limit: Ints,
        job_limit: Ints,
    ) -> None:
        self.pairs = pairs
        self.total = total
        self.counts = counts
        self.weight = weight
        self.pair_limit = pair_limit
        self.user_limit = user_limit
        self.job_limit = job_limit

    def fill(self, rng: np.random.Generator, target: int, where: Bools) -> int:
        """Add to the pairs `where` until they sum to the target, or meet a limit or the total.

        Returns:
            How many are missing.
        """
        at = np.flatnonzero(where & (self.weight > 0))
        missing = min(
            target - int(self.counts[where].sum()),
            self.total - int(self.counts.sum()),
        )
        user_room = self.user_limit - self._totals(self.pairs.user, len(self.user_limit))
        job_room = self.job_limit - self._totals(self.pairs.job, len(self.job_limit))
        added = _scatter(
            rng,
            self.weight[at],
            missing,
            [
                (np.arange(len(at)), (self.pair_limit - self.counts)[at]),
                (self.pairs.user[at], user_room),
                (self.pairs.job[at], job_room),
            ],
        )
        self.counts[at] += added
        return missing - int(added.sum())

    def fill_top_pair(self, rng: np.random.Generator, target: int, where: Bools) -> None:
        """Raise the heaviest pair, of those `where` which have room for it, to the target."""
        user_room = self.user_limit - self._totals(self.pairs.user, len(self.user_limit))
        job_room = self.job_limit - self._totals(self.pairs.job, len(self.job_limit))
        fits = np.minimum(user_room[self.pairs.user], job_room[self.pairs.job]) >= target
        top = int(np.argmax(np.where(where & fits, self.weight, 0.0)))
        if where[top] and fits[top]:
            self.pair_limit[top] = target
            self.fill(rng, target, np.arange(len(where)) == top)

    def complete(self, rng: np.random.Generator) -> None:
        """Bring the sum to the total; in a set too small for its limits, beyond them."""
        missing = self.fill(rng, self.total, np.ones(len(self.counts), dtype=np.bool_))
        self.counts += _scatter(rng, self.weight, missing, [])

    def _totals(self, group: Ints, n: int) -> Ints:
        totals = np.zeros(n, dtype=np.int64)
        np.add.at(totals, group, self.counts)
        return totals


# --- Numeric helpers ------------------------------------------------------------------------------


def _scatter(
    rng: np.random.Generator, weight: Floats, count: int, limits: Sequence[tuple[Ints, Ints]]
) -> Ints:
    """Drop `count` units on slots by weight, in rounds, drawing again what exceeds a limit.

    Args:
        rng: Source of chance.
        weight: Weight of each slot, zero or more.
        count: Units to drop.
        limits: For each kind of limit, the group of each slot and the room left in each group.

    Returns:
        Units per slot. They sum to less than `count` only if no slot with weight has room left.
    """
    dropped = np.zeros(len(weight), dtype=np.int64)
    rooms = [(group, room.copy()) for group, room in limits]
    while count > 0:
        usable = weight
        for group, room in rooms:
            usable = np.where(room[group] > 0, usable, 0.0)
        cumulative = np.cumsum(usable)
        if not cumulative.size or cumulative[-1] <= 0:
            break
        slot = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
        slot = slot[slot < len(weight)]  # the product may round up to the end
        fits = np.ones(len(slot), dtype=np.bool_)
        for group, room in rooms:
            fits &= _ordinal(group[slot]) < room[group[slot]]
        slot = slot[fits]
        dropped += np.bincount(slot, minlength=len(weight))
        for group, room in rooms:
            room -= np.bincount(group[slot], minlength=len(room))
        count -= len(slot)
    return dropped


def _ordinal(values: Ints) -> Ints:
    """How many equal values stand before each one."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    position = np.arange(len(values))
    starts = np.ones(len(values), dtype=np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    ordinal = np.empty(len(values), dtype=np.int64)
    ordinal[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return ordinal


def _best_of_each(group: Ints, weight: Floats) -> Ints:
    """The position of the heaviest member of each group."""
    order = np.lexsort((weight, group))
    ordered = group[order]
    ends = np.ones(len(group), dtype=np.bool_)
    ends[:-1] = ordered[1:] != ordered[:-1]
    return order[ends]


def _pick(rng: np.random.Generator, weights: Sequence[float], n: int) -> Ints:
    """Draw n positions in `weights`, in proportion to them."""
    cumulative = np.cumsum(weights)
    found = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return np.asarray(np.minimum(found, len(weights) - 1))


def _words(rng: np.random.Generator, words: Sequence[Any], n: int) -> list[Any]:
    """Draw n of the words, the earlier ones more often."""
    picks = _pick(rng, [1 / (rank + 2) for rank in range(len(words))], n)
    return [words[pick] for pick in picks.tolist()]


def _keys(user: Ints, job: Ints, jobs: _Jobs) -> Ints:
    """One number per pair."""
    return user * len(jobs.field) + job


def _is_in(values: Ints, ordered: Ints) -> Bools:
    """Which values occur in an ascending array."""
    if not ordered.size:
        return np.zeros(len(values), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[at] == values)


def _is_open(jobs: _Jobs, job: Ints, time: Ints) -> Bools:
    """Whether a meeting at this time leaves an hour for what may follow."""
    return (jobs.start[job] <= time) & (time <= jobs.end[job] - _HOUR)


def _while_open(rng: np.random.Generator, jobs: _Jobs, job: Ints, time: Ints) -> Ints:
    """Move the times at which a job is not open to one at which it is."""
    shut = ~_is_open(jobs, job, time)
    start = jobs.start[job[shut]]
    moved = time.copy()
    moved[shut] = start + rng.integers(0, jobs.end[job[shut]] - _HOUR - start)
    return moved


def _is_own_field(people: _People, jobs: _Jobs, pairs: _Pairs) -> Bools:
    """Whether the job of a pair is of one of the fields of its person."""
    row = people.active[pairs.user]
    field = jobs.field[pairs.job]
    return np.asarray((people.field[row] == field) | (people.second_field[row] == field))


# --- Writing --------------------------------------------------------------------------------------

_BLOCK = 50_000
"""Lines that are held in memory at a time."""


class _LineCount:
    """Counts the lines that pass, and tells the caller."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._on_progress = on_progress

    def through(self, blocks: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
        """Join each block of lines; it counts once the next one is asked for, so is written."""
        for block in blocks:
            yield b"".join(block)
            self._done += len(block)
            if self._on_progress is not None:
                self._on_progress(self._done, self._total)


def _write_files(folder: Path, files: Mapping[str, Iterable[bytes]]) -> None:
    """Write files under temporary names, and rename them when all of them are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = {name: folder / f".{name}.partial" for name in files}
    try:
        for name, blocks in files.items():
            with partial[name].open("wb") as file:
                file.writelines(blocks)
        for name, path in partial.items():
            path.replace(folder / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def _line(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _activity_lines(events: _Events, people: _People, jobs: _Jobs) -> Iterator[list[bytes]]:
    """Yield the activities in blocks of lines."""
    user_ids = (people.active + 1).tolist()
    job_ids = jobs.number.tolist()
    for block in _blocks(len(events.time)):
        yield [
            _line(
                {
                    "timestamp": time,
                    "job_id": job_ids[job],
                    "user_id": user_ids[user],
                    "type": _KINDS[kind],
                }
            )
            for time, job, user, kind in zip(
                (events.time[block] / _SECOND).tolist(),
                events.job[block].tolist(),
                events.user[block].tolist(),
                events.kind[block].tolist(),
                strict=True,
            )
        ]


def _user_lines(people: _People) -> Iterator[list[bytes]]:
    """Yield everyone, active or not, in blocks of lines."""
    names, fields = list(FIELDS), list(FIELDS.values())
    for block in _blocks(len(people.field)):
        lines = []
        for row, first, second, subject in zip(
            range(block.start, block.stop),
            people.field[block].tolist(),
            people.second_field[block].tolist(),
            people.subject[block].tolist(),
            strict=True,
        ):
            own = [first] if second == _NO_FIELD else [first, second]
            lines.append(
                _line(
                    {
                        "user_id": row + 1,
                        **{name: column[row] for name, column in people.columns.items()},
                        "degree_subject": fields[first].subjects[subject],
                        "degree_subject_groups": [names[field] for field in own],
                        # a dictionary drops the repetition and keeps the order
                        "degree_subject_categories": list(
                            dict.fromkeys(fields[field].category for field in own)
                        ),
                    }
                )
            )
        yield lines


def _truth_lines(people: _People, jobs: _Jobs) -> Iterator[bytes]:
    """Yield the planted tastes: for each field who has it, and which jobs are of it."""
    for index, name in enumerate(FIELDS):
        has = (people.field == index) | (people.second_field == index)
        user_ids = (np.flatnonzero(has) + 1).tolist()
        job_ids = np.sort(jobs.number[jobs.field == index]).tolist()
        for block in _blocks(max(len(user_ids), len(job_ids))):
            yield _line({"taste": name, "user_ids": user_ids[block], "job_ids": job_ids[block]})


def _job_lines(rng: np.random.Generator, size: DemoSize, jobs: _Jobs) -> Iterator[list[bytes]]:
    """Yield the listed jobs, in the order of their ids, in blocks of lines."""
    in_order = np.argsort(jobs.number, kind="stable")
    listed = in_order[jobs.listed[in_order]]
    employers = _employer_names(size.listed_jobs)
    skew = [[1 / (rank + 2) for rank in range(len(names))] for names in employers]
    for block in _blocks(len(listed)):
        job = listed[block]
        field = jobs.field[job]
        n = len(job)
        # an employer has one field mostly: one job in twelve is for another trade
        trade = np.where(rng.random(n) < 1 / 12, rng.integers(0, len(FIELDS), n), field)
        employer = np.zeros(n, dtype=np.int64)
        for index, weights in enumerate(skew):
            here = np.flatnonzero(trade == index)
            employer[here] = _pick(rng, weights, len(here))
        yield [
            _line(
                {
                    "job_id": number,
                    **_advertisement(field, employers[trade][employer], place, dice),
                    "posted_at": f"{posted}Z",
                    "closes_at": f"{closes}Z",
                }
            )
            for number, field, trade, employer, place, dice, posted, closes in zip(
                jobs.number[job].tolist(),
                field.tolist(),
                trade.tolist(),
                employer.tolist(),
                _words(rng, _LOCATIONS, n),
                rng.integers(0, 1 << 30, (n, _DICE)).tolist(),
                _rfc3339(jobs.posted[job]),
                _rfc3339(jobs.closes[job]),
                strict=True,
            )
        ]


def _advertisement(field: int, employer: str, location: str, dice: Sequence[int]) -> dict[str, str]:
    """Word one job.

    Args:
        field: Position in `FIELDS`.
        employer: Who offers it.
        location: Where.
        dice: `_DICE` random whole numbers.
    """
    words = _FIELD_WORDS[field]
    title_die, suffix_die, opening_die, first_die, step_die, length_die, closing_die = dice
    title = words.titles[title_die % len(words.titles)]
    suffix = (None, None, location, "Full Time", "Rolling Applications")[suffix_die % 5]
    # an odd step visits distinct ones among a power of two of duties
    duties = [
        words.duties[(first_die + turn * (2 * step_die + 1)) % _DUTIES_PER_FIELD]
        for turn in range(3 + length_die % 2)
    ]
    return {
        "title": title if suffix is None else f"{title}{_TITLE_SUFFIX}{suffix}",
        "employer": employer,
        "location": location,
        "description": " ".join(
            [
                _OPENINGS[opening_die % len(_OPENINGS)].format(
                    employer=employer, location=location, title=title
                ),
                *(f"You will {duty}." for duty in duties),
                _CLOSINGS[closing_die % len(_CLOSINGS)],
            ]
        ),
    }


def _employer_names(jobs: int) -> list[list[str]]:
    """Invent the employers of each field, more of them for more jobs."""
    total = sum(field.share for field in FIELDS.values())
    names = []
    for index, field in enumerate(FIELDS.values()):
        possible = [
            f"{head}{tail} {second}"
            for second in field.employers
            for tail in _NAME_TAILS
            for head in _NAME_HEADS
        ]
        wanted = min(len(possible), max(3, int(jobs * field.share / total / 12)))
        # the step shares no divisor with the length, so it mixes the names without repetition
        names.append(
            [possible[(index + turn * _NAME_STEP) % len(possible)] for turn in range(wanted)]
        )
    return names


def _rfc3339(times: Ints) -> list[str]:
    """Format times in whole seconds, without the zone."""
    seconds = (times // _SECOND).astype("datetime64[s]")
    return [str(text) for text in np.datetime_as_string(seconds, unit="s").tolist()]


# --- Words: all names of employers and universities are invented ----------------------------------

_TITLE_SUFFIX = " - "
_FIELD_BY_TITLE = {title: name for name, field in FIELDS.items() for title in field.titles}
_FIELD_WORDS = list(FIELDS.values())
_DUTIES_PER_FIELD = 8
_SUBJECTS_PER_FIELD = 4
_DICE = 7

_OPENINGS = (
    "{employer} is looking for people who want to learn a trade properly at our {location} office.",
    "Start your career in {location}: {employer} offers a place as {title} in a friendly team.",
    "As {title} with {employer} you join a team in {location} that takes early careers seriously.",
    "{employer} grows in {location} and opens its doors to graduates of this year and the last.",
)
_CLOSINGS = (
    "We pay for your training, give you a mentor and let you work from home two days a week.",
    "No experience is needed; curiosity, care and clear writing matter more to us than grades.",
    "The programme runs for two years, with a permanent position waiting at its end.",
    "We welcome applications from every background and are glad to adjust our process.",
    "You should hold, or be about to finish, a degree in a related subject.",
    "Interviews are held as applications arrive, so it is worth applying early.",
)
_LOCATIONS = (
    "London", "Manchester", "Birmingham", "Leeds", "Edinburgh", "Bristol", "Glasgow", "Cardiff",
    "Belfast", "Liverpool", "Newcastle", "Sheffield", "Nottingham", "Reading", "Cambridge",
    "Oxford", "Leicester", "Southampton", "York", "Aberdeen", "Exeter", "Norwich", "Swansea",
)  # fmt: skip
_NAME_HEADS = (
    "Quorra", "Ostre", "Velda", "Thaxi", "Umbra", "Yarle", "Zephy", "Brinda", "Calve", "Drosa",
    "Elvi", "Fenna", "Gwyre", "Hollo", "Iveri", "Jarro",
)  # fmt: skip
_NAME_TAILS = ("mere", "wick", "stone", "holt", "combe", "field", "march", "thorn")
_NAME_STEP = 151
_UNIVERSITIES = tuple(
    pattern.format(head + tail)
    for pattern in ("University of {}", "{} Metropolitan University", "{} Institute")
    for head, tail in (
        ("Umbra", "ford"), ("Velda", "bridge"), ("Fenna", "port"), ("Ostre", "minster"),
        ("Yarle", "dale"), ("Gwyre", "mouth"), ("Hollo", "chester"), ("Iveri", "burgh"),
    )
)  # fmt: skip
_ETHNICITIES = ("white", "asian", "black", "mixed", "other", "prefer not to say")
_GENDERS = ("female", "male", "non-binary", "prefer not to say")
_SCHOOL_TYPES = ("state", "selective state", "independent", "abroad", "prefer not to say")
_LANGUAGES = (
    "English", "French", "Spanish", "Polish", "Urdu", "German", "Welsh", "Mandarin", "Arabic",
)  # fmt: skip
