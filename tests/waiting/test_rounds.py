"""Rounds of waking over changes of who leads: nobody who waits is lost to one.

kube-scheduler asks from the first moment of its term on. The Lease is looked at every second, and a
watch may tell of pods later than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from extender.cluster.view import PodFacts
from extender.kube.objects import Pod
from extender.placement.request import PodRequest
from extender.serving.touching import WRITE_SECONDS
from extender.waiting.leads import IN_DOUBT_SECONDS
from extender.waiting.pods import UNSEEN_SECONDS, WaitingPods
from extender.waiting.rounds import TAKEN_BACK_AFTERWARDS, WOKEN_BETWEEN, Rounds
from extender.waiting.telling import Told, Word
from extender.waiting.underway import AWAITED_SECONDS, HALF, MOST
from tests.builders import node, tmpfs
from tests.verbs.test_preempt import above, evicted, nominated
from tests.waiting.room import Room

TAKER = tmpfs("taker", size="60Gi", on="a")
WAITS = tmpfs("waits", size="20Gi")


class Leading(Room):
    """A node that is full, the rounds of a service, and the lead as it sees it."""

    def __init__(self, *, room_for: int = 100) -> None:
        super().__init__()
        self.pods = WaitingPods(size=room_for)
        self.term: str | None = None
        self.open = False
        self.complete = True
        self.told: list[str] = []
        self.answer = self.nominating = Told.WRITTEN
        self.hangs: Callable[[PodRequest], bool] = lambda _: False
        self.under_way: list[tuple[PodRequest, float]] = []
        """What hangs: the pods' UIDs, and until when."""
        self.meanwhile: Callable[[], object] = lambda: None
        self.state.upsert(node("a"))
        self.state.upsert(TAKER)
        self.rounds = Rounds(
            self.state,
            self.pods,
            self.context.policy,
            self,
            schedulers={""},  # which is what the pods of a test name
            stale=lambda: self.stale,
            request_of=self.context.request_of,
        )

    def leads(self) -> bool:
        return self.open

    def caught_up(self) -> bool:
        return self.complete

    def nominate(self, request: PodRequest, node: str) -> Word:
        if self.nominating is Told.WRITTEN:
            return self.touch(request)
        self.told.append(f"{request.name} to {node}")
        return Word(self.nominating)

    def touch(self, request: PodRequest) -> Word:
        self.told.append(request.name)
        return self.answered(request, Told.WRITTEN)

    def take_back(self, request: PodRequest, node: str) -> Word:
        self.told.append(f"{request.name} not to {node}")
        self.meanwhile()
        return self.answered(request, self.answer)

    def answered(self, request: PodRequest, otherwise: Told) -> Word:
        """Answer a write, or wait a moment for the answer where none of that namespace is late."""
        if not self.hangs(request):
            return Word(otherwise)
        if all(request.namespace != late.namespace for late, _ in self.under_way):
            self.now += AWAITED_SECONDS
        self.under_way.append((request, self.now + WRITE_SECONDS))
        assert len(self.under_way) <= MOST, "each takes a thread"
        return Word(Told.AWAITED)

    def answers(self) -> list[tuple[str, Word]]:
        over = [(it.uid, Word(Told.UNANSWERED)) for it, end in self.under_way if end <= self.now]
        self.under_way = [(it, end) for it, end in self.under_way if end > self.now]
        return over

    def see(self, term: str | None, *, open_: bool = True, complete: bool = True) -> None:
        """Look at the Lease, then wake whom it is time to wake."""
        self.term, self.open, self.complete = term, open_, complete
        self.now += 1.0
        for _ in self.rounds.wake(self):
            pass

    def waiting(self) -> list[str]:
        return [pod.request.name for pod in self.pods.all()]


@pytest.fixture
def leading() -> Leading:
    return Leading()


@pytest.mark.parametrize("before", [None, "own 1"], ids=["another led", "it led before"])
def test_who_is_refused_before_a_new_term_is_seen_is_woken_in_it(
    leading: Leading, before: str | None
) -> None:
    leading.see(before, open_=before is not None)
    leading.refuse(WAITS, "a", known=False)
    leading.see(before, open_=False)  # the Lease as it was a moment ago
    leading.see("own 2", open_=False)
    leading.see("own 2")
    leading.state.upsert(WAITS)
    assert leading.waiting() == ["waits"]
    leading.state.delete(TAKER)
    leading.see("own 2")
    assert leading.told == ["waits"]


def test_who_is_shown_later_than_a_term_begins_is_recovered_once_the_watch_has_caught_up(
    leading: Leading,
) -> None:
    """After a restart of this process alone nobody asks again by itself for minutes."""
    leading.see("own 1", complete=False)
    leading.state.upsert(WAITS)
    leading.see("own 1", complete=False)
    assert leading.waiting() == []
    leading.see("own 1")
    assert leading.waiting() == ["waits"]
    leading.state.delete(TAKER)
    leading.see("own 1")
    assert leading.told == ["waits"]


def test_who_is_known_when_a_term_begins_does_not_wait_for_the_watch(leading: Leading) -> None:
    leading.state.upsert(WAITS)
    leading.see("own 1", complete=False)
    leading.state.delete(TAKER)
    leading.see("own 1", complete=False)
    assert leading.told == ["waits"]


def test_a_pod_that_comes_later_is_none_that_was_refused(leading: Leading) -> None:
    leading.see("own 1")
    leading.state.upsert(WAITS)
    leading.see("own 1")
    assert leading.waiting() == []


def test_while_another_one_leads_nobody_waits_here(leading: Leading) -> None:
    leading.see("own 1")
    leading.refuse(WAITS, "a")
    leading.see(None, open_=False)
    assert leading.waiting() == []
    leading.state.delete(TAKER)
    leading.see(None, open_=False)
    assert leading.told == []


def test_in_a_new_term_every_node_counts_for_who_waited_before(leading: Leading) -> None:
    """Another one may have led meanwhile, and its kube-scheduler asked about a node of later."""
    leading.see("own 1")
    leading.refuse(WAITS, "a")
    leading.state.upsert(node("new"))
    leading.see("own 1")
    assert leading.told == []
    leading.see("own 2")
    assert leading.told == ["waits"]


def test_a_pod_that_went_meanwhile_is_not_kept_over_terms(leading: Leading) -> None:
    leading.see("own 1")
    leading.refuse(WAITS, "a")
    leading.see("own 1")
    leading.state.delete(WAITS)
    leading.see("own 2")
    assert leading.waiting() == []
    leading.refuse(WAITS, "a", known=False)
    leading.now += UNSEEN_SECONDS
    leading.see("own 3")
    assert leading.waiting() == []


def test_a_change_means_nothing_to_a_round_only_where_nobody_can_wait(leading: Leading) -> None:
    def idle() -> bool:
        return leading.rounds.idle(leading)

    assert not idle()
    leading.see("own 1", complete=False)
    assert not idle(), "some may be shown yet who waited when the term began"
    leading.see("own 1")
    assert idle()
    leading.term = "own 2"
    assert not idle(), "who waited before is to be looked at again"
    leading.see("own 2")
    assert idle()
    leading.refuse(WAITS, "a")
    leading.see("own 2")
    assert not idle()
    leading.state.delete(WAITS)
    leading.see("own 2")
    assert idle()
    request = leading.context.request(WAITS)
    leading.pods.lost.put(request, "a", in_doubt=True)
    assert not idle(), "whether a nomination leads somewhere is to be found out"


def test_a_pod_whose_nomination_is_refused_is_touched_in_its_place(leading: Leading) -> None:
    """As by an admission policy of somebody else's, which will refuse it every time."""
    leading.see("own 1")
    leading.refuse(WAITS, "a")
    leading.nominating = Told.REFUSED
    leading.state.delete(TAKER)
    leading.see("own 1")
    assert leading.told == ["waits to a"]
    leading.see("own 1")
    assert leading.told == ["waits to a", "waits"]


def test_who_was_forgotten_for_want_of_room_is_taken_in_again_once_there_is_some() -> None:
    leading = Leading(room_for=10)
    leading.see("own 1")
    for number in range(12):
        leading.refuse(tmpfs(f"waits-{number:02}", size="20Gi"), "a")
    leading.see("own 1")
    assert leading.waiting() == [f"waits-{number:02}" for number in range(2, 12)]
    for number in range(8, 12):
        leading.state.delete(tmpfs(f"waits-{number:02}", size="20Gi"))
    leading.see("own 1")
    leading.see("own 1")
    assert leading.waiting() == [f"waits-{number:02}" for number in range(8)]
    leading.refuse(tmpfs("waits-12", size="20Gi"), "a")
    leading.state.upsert(tmpfs("is-new", size="20Gi"))
    leading.see("own 1")
    assert "is-new" not in leading.waiting(), "nobody was forgotten any more"


MEANT = nominated(above(tmpfs("meant", size="20Gi")), "a")
"""kube-scheduler has it nominated to the node, which is full for it."""

ALSO_MEANT = nominated(above(tmpfs("also-meant", size="20Gi")), "a")


@pytest.mark.parametrize("refused", [True, False], ids=["filter was asked", "it was not"])
def test_a_nomination_that_leads_nowhere_is_taken_back_once(
    leading: Leading, *, refused: bool
) -> None:
    """kube-scheduler keeps it where no eviction is worth it, and everybody else out."""
    if refused:
        leading.refuse(MEANT, "a")
    assert leading.preempted(MEANT, b=("uid-nobody",)) == set()
    for _ in range(2):
        leading.see("own 1")
    assert leading.told == ["meant not to a"]


@pytest.mark.parametrize("answer", [Told.REFUSED, Told.UNANSWERED, Told.UNREACHED])
def test_a_nomination_that_could_not_be_taken_back_is_taken_back_later(
    leading: Leading, answer: Told
) -> None:
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.answer = answer
    leading.see("own 1")
    leading.answer = Told.OVERTAKEN
    leading.see("own 1")
    leading.see("own 1")
    assert leading.told == ["meant not to a"] * 2


def test_a_nomination_that_cannot_be_taken_back_is_tried_after_one_two_four_seconds(
    leading: Leading,
) -> None:
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.answer = Told.REFUSED
    begun, tried = leading.now + 1.0, []
    for _ in range(140):
        leading.see("own 1")
        leading.preempted(MEANT, b=("uid-nobody",))  # kube-scheduler has it nominated still
        if leading.told:
            tried.append(leading.now - begun)
            leading.told.clear()
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123]


def in_namespace(pod: Pod, namespace: str) -> Pod:
    return replace(pod, metadata=replace(pod.metadata, namespace=namespace))


def of_namespaces(number: int) -> Callable[[PodRequest], bool]:
    """Tell of the pods in some namespaces: a webhook does not answer there."""
    hung = {f"hung-{n}" for n in range(number)}
    return lambda request: request.namespace in hung


def longest_wait(leading: Leading, *, seconds: int) -> float:
    """Let a pod come and find room again and again; return how long one has waited until told."""
    longest = 0.0
    begun = leading.now
    number = 0
    while leading.now - begun < seconds:
        number += 1
        pod = tmpfs(f"able-{number}", size="1Gi")
        leading.refuse(pod, "a")
        since = leading.now
        while pod.metadata.name not in leading.told:
            leading.see("own 1")
            assert leading.now - since < 60
        longest = max(longest, leading.now - since)
        leading.state.delete(pod)
    return longest


@pytest.mark.parametrize("namespaces", [1, 20])
@pytest.mark.parametrize("refused", ["once", "again and again"])
def test_touches_that_hang_keep_nobody_waiting_who_could_run(
    leading: Leading, namespaces: int, refused: str
) -> None:
    """Such as behind an admission webhook that does not answer, in some namespaces.

    kube-scheduler may try such a pod by itself at every change.
    """
    leading.state.upsert(node("a", memory="640Gi"))
    urgent = [above(tmpfs(f"hung-{n}", size="1Gi")) for n in range(60)]
    hung = [in_namespace(pod, f"hung-{n % namespaces}") for n, pod in enumerate(urgent)]
    for pod in hung:
        leading.refuse(pod, "a")
    leading.hangs = of_namespaces(namespaces)
    if refused == "again and again":
        see = leading.see

        def seen(term: str | None) -> None:
            for pod in hung:
                leading.refuse(pod, "a")
            see(term)

        leading.see = seen  # type: ignore[method-assign,assignment]
    learned = 0.0 if namespaces < MOST else WRITE_SECONDS
    assert longest_wait(leading, seconds=30) <= 1.0 + MOST * AWAITED_SECONDS + learned
    assert longest_wait(leading, seconds=60) <= 1.0 + HALF * AWAITED_SECONDS
    leading.hangs = lambda _: False
    leading.told.clear()
    longest_wait(leading, seconds=120)
    assert {pod.metadata.name for pod in hung} <= set(leading.told), "each is told once it can be"


def test_touches_that_hang_hold_up_others_of_their_namespace_for_seconds(leading: Leading) -> None:
    """A webhook may be asked about pods with one label alone."""
    leading.state.upsert(node("a", memory="640Gi"))
    for number in range(2 * HALF):
        leading.refuse(above(tmpfs(f"hung-{number}", size="1Gi")), "a")
    for number in range(50):
        leading.refuse(tmpfs(f"able-{number}", size="1Gi"), "a")
    leading.hangs = lambda request: request.name.startswith("hung")
    begun = leading.now
    while not {f"able-{number}" for number in range(50)} <= set(leading.told):
        leading.see("own 1")
    turn = 1.0 + HALF * AWAITED_SECONDS + WRITE_SECONDS
    assert leading.now - begun <= 2 * turn + 1.0 + 2.0, "the namespace is left alone after each"


def test_no_memory_is_kept_for_who_may_not_be_told_where(leading: Leading) -> None:
    """It would be kept for one after the other of those whose nominations hang."""
    leading.see("own 1")
    leading.hangs = of_namespaces(1)
    hung = [in_namespace(above(tmpfs(f"hung-{n}", size="40Gi")), "hung-0") for n in range(9)]
    for pod in hung:
        leading.refuse(pod, "a")
    leading.state.delete(TAKER)
    kept = []
    for _ in range(60):
        leading.see("own 1")
        kept.append(len(leading.state.view().nodes["a"].reserved))
        for pod in hung:
            leading.refuse(pod, "a")
    assert kept[0] == 1
    assert not any(kept[10:])


def test_take_backs_that_hang_keep_nobody_waiting_who_could_run(leading: Leading) -> None:
    for number in range(20):
        hung = nominated(above(tmpfs(f"hung-{number}", size="60Gi")), "a")
        leading.preempted(in_namespace(hung, "hung-0"), b=("uid-nobody",))
    leading.refuse(WAITS, "a")
    leading.hangs = of_namespaces(1)
    for _ in range(60):
        leading.see("own 1")
    tried = Counter(leading.told)
    assert len(tried) > 1, "each has its turn"
    assert max(tried.values()) <= 6
    assert leading.pods.lost.count() == 20
    leading.state.delete(TAKER)
    leading.told.clear()
    could_run = leading.now
    leading.see("own 1")
    assert leading.told[0] == "waits"
    assert leading.now - could_run <= 1.0 + HALF * AWAITED_SECONDS
    leading.hangs = lambda _: False
    for _ in range(120):
        leading.see("own 1")
    assert leading.pods.lost.count() == 0


def test_nominations_are_taken_back_while_many_are_woken(leading: Leading) -> None:
    waits = [tmpfs(f"waits-{number}", size="1Gi") for number in range(3)]
    for pod in waits:
        leading.refuse(pod, "a")
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.state.delete(TAKER)
    leading.see("own 1")
    assert leading.told == ["waits-0", "meant not to a", "waits-1", "waits-2"]


def test_nominations_take_a_tenth_of_what_is_written_while_others_are_woken(
    leading: Leading,
) -> None:
    """A pod that could run waits for the writes before its own: at 50 a second they are long."""
    leading.state.upsert(node("a", memory="640Gi"))
    for number in range(3 * WOKEN_BETWEEN):
        leading.refuse(tmpfs(f"waits-{number:02}", size="1Gi"), "a")
        lost = nominated(above(tmpfs(f"meant-{number}", size="1Gi")), "b")
        leading.preempted(lost, b=("uid-nobody",))
    leading.see("own 1")
    taken = [number for number, told in enumerate(leading.told) if told.endswith("not to b")]
    among, afterwards = taken[:3], taken[3:]
    assert among == [1, 1 + WOKEN_BETWEEN + 1, 1 + 2 * (WOKEN_BETWEEN + 1)]
    assert len(afterwards) == TAKEN_BACK_AFTERWARDS
    assert afterwards[0] == 3 * WOKEN_BETWEEN + 3, "all have been woken"


def test_of_many_nominations_a_round_takes_back_a_few(leading: Leading) -> None:
    for number in range(2 * TAKEN_BACK_AFTERWARDS):
        pod = nominated(above(tmpfs(f"meant-{number}", size="60Gi")), "a")
        leading.preempted(pod, b=("uid-nobody",))
    leading.see("own 1")
    assert len(leading.told) == TAKEN_BACK_AFTERWARDS
    leading.see("own 1")
    assert len(leading.told) == 2 * TAKEN_BACK_AFTERWARDS


def test_one_that_could_not_be_taken_back_comes_after_those_that_were_not_tried(
    leading: Leading,
) -> None:
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.answer = Told.REFUSED
    leading.see("own 1")
    leading.preempted(nominated(above(tmpfs("later", size="60Gi")), "a"), b=("uid-nobody",))
    leading.see("own 1")
    assert leading.told == ["meant not to a", "later not to a", "meant not to a"]


def test_a_nomination_that_has_come_to_be_right_in_a_round_is_not_taken_back(
    leading: Leading,
) -> None:
    """It is looked at again right before each is written."""
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.preempted(ALSO_MEANT, b=("uid-nobody",))
    leading.meanwhile = lambda: leading.preempted(ALSO_MEANT, a=("uid-taker",))
    leading.see("own 1")
    assert leading.told == ["meant not to a"]


def test_a_nomination_stays_where_there_is_room_for_its_pod_after_all(leading: Leading) -> None:
    leading.see("own 1")
    leading.refuse(MEANT, "a")
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.pods.drop(MEANT.metadata.uid)  # filter has let it through
    leading.see("own 1")
    assert leading.told == []


def test_a_nomination_stays_where_others_are_evicted_after_all(leading: Leading) -> None:
    leading.preempted(MEANT, b=("uid-nobody",))
    assert leading.preempted(MEANT, a=("uid-taker",)) == {"a"}
    leading.see("own 1")
    assert leading.told == []


def test_a_nomination_stays_while_nobody_can_tell_where_it_leads(leading: Leading) -> None:
    leading.stale = ("Pod",)
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.see("own 1")
    assert leading.told == []


def test_where_a_nomination_leads_is_asked_again_once_knowledge_is_fresh(
    leading: Leading,
) -> None:
    leading.see("own 1")
    leading.refuse(MEANT, "a")
    leading.stale = ("Pod",)
    leading.preempted(MEANT, b=("uid-nobody",))
    for _ in range(10):
        leading.see("own 1")
    assert leading.told == []
    leading.stale = ()
    leading.see("own 1")
    assert leading.told == ["meant"]
    leading.refuse(MEANT, "a")
    leading.preempted(MEANT, b=("uid-nobody",))
    for _ in range(10):
        leading.see("own 1")
    assert leading.told == ["meant", "meant not to a"]


def old_knowledge_ends(leading: Leading, *, seconds: int = 20) -> list[str]:
    """Ask preempt for the nominated pod by old knowledge alone; return who is told once it is not.

    kube-scheduler asks no more: every node fails by its own rules, and nothing changes there.
    """
    leading.see("own 1")
    leading.state.upsert(MEANT)
    leading.stale = ("Pod",)
    leading.preempted(MEANT, b=("uid-nobody",))
    for _ in range(60):
        leading.see("own 1")
    assert leading.told == []
    leading.stale = ()
    for _ in range(seconds):
        leading.see("own 1")
    return leading.told


def test_a_nomination_that_old_knowledge_left_is_taken_back_where_filter_is_not_asked(
    leading: Leading,
) -> None:
    assert old_knowledge_ends(leading, seconds=int(IN_DOUBT_SECONDS)) == [], "it may be asked yet"
    leading.see("own 1")
    leading.see("own 1")
    assert leading.told == ["meant not to a"]
    assert leading.pods.lost.count() == 0


@pytest.mark.parametrize("why", ["late", "before the first lists"])
@pytest.mark.parametrize("room", ["none", "there"])
def test_a_nomination_that_preempt_could_say_nothing_of_stays_where_it_leads_somewhere_alone(
    leading: Leading, why: str, room: str
) -> None:
    """kube-scheduler keeps it where the answer has no node, and asks no more."""
    leading.see("own 1")
    leading.state.upsert(MEANT)
    if room == "there":
        leading.state.delete(TAKER)
    leading.late, leading.unsynced = why == "late", () if why == "late" else ("Pod",)
    assert leading.preempted(MEANT, b=("uid-nobody",)) == set()
    leading.late, leading.unsynced = False, ()
    for _ in range(20):
        leading.see("own 1")
    assert leading.told == ([] if room == "there" else ["meant not to a"])
    assert leading.pods.lost.next(leading.now, doubts=True, may_tell=lambda _: True) is None


def test_a_doubt_is_settled_by_the_pods_of_its_one_node(
    leading: Leading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them stand between any two pods that are woken, in a cluster of any size."""
    leading.see("own 1")
    leading.state.upsert(MEANT)
    leading.late = True
    leading.preempted(MEANT, b=("uid-nobody",))

    def looked_through() -> list[PodFacts]:
        raise AssertionError

    monkeypatch.setattr(leading.state, "pods", looked_through)
    for _ in range(10):
        leading.see("own 1")
    assert leading.told == ["meant not to a"]


@pytest.mark.parametrize("room", ["there", "coming"])
def test_a_nomination_that_old_knowledge_left_stays_where_it_leads_somewhere(
    leading: Leading, room: str
) -> None:
    if room == "there":
        leading.state.delete(TAKER)
    else:  # kube-scheduler has evicted it for the pod, and filter was asked too early
        leading.state.upsert(evicted(TAKER))
    assert old_knowledge_ends(leading) == []


@pytest.mark.parametrize("gpus", [1, 2])
def test_it_leads_nowhere_where_something_else_is_lacking_that_kube_scheduler_counts(
    leading: Leading, gpus: int
) -> None:
    leading.state.delete(TAKER)
    with_gpus = node("a")
    allocatable = {**with_gpus.status.allocatable, "nvidia.com/gpu": str(gpus)}
    status = replace(with_gpus.status, allocatable=allocatable)
    leading.state.upsert(replace(with_gpus, status=status))
    leading.state.upsert(with_a_gpu(tmpfs("other", size="1Gi", on="a")))
    wanted = with_a_gpu(MEANT)
    leading.see("own 1")
    leading.state.upsert(wanted)
    leading.stale = ("Pod",)
    leading.preempted(wanted, b=("uid-nobody",))
    leading.see("own 1")
    leading.stale = ()
    for _ in range(20):
        leading.see("own 1")
    assert leading.told == (["meant not to a"] if gpus == 1 else [])


def with_a_gpu(pod: Pod) -> Pod:
    """Return a pod that requests one GPU."""
    (container, *others) = pod.spec.containers
    requests = {**container.resources.requests, "nvidia.com/gpu": "1"}
    asks = replace(container, resources=replace(container.resources, requests=requests))
    return replace(pod, spec=replace(pod.spec, containers=(asks, *others)))


def test_many_nominations_in_doubt_keep_nobody_waiting_who_could_run(
    leading: Leading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is judged, which takes a moment; a round judges some."""
    leading.see("own 1")
    leading.stale = ("Pod",)
    for number in range(3 * TAKEN_BACK_AFTERWARDS):
        pod = nominated(above(tmpfs(f"meant-{number}", size="1Gi")), "a")
        leading.state.upsert(pod)
        leading.preempted(pod, b=("uid-nobody",))
    leading.stale = ()
    looked: list[float] = []
    making_way = leading.state.making_way

    def counted(node: str, below: int) -> list[str]:
        looked.append(leading.now)
        return making_way(node, below)

    monkeypatch.setattr(leading.state, "making_way", counted)
    leading.state.delete(TAKER)
    for _ in range(20):
        leading.see("own 1")
    assert leading.told == []
    assert set(Counter(looked).values()) == {TAKEN_BACK_AFTERWARDS}
    assert len(looked) == 3 * TAKEN_BACK_AFTERWARDS, "each is judged once"


def test_who_is_not_nominated_is_not_tried_again_for_fresh_knowledge_alone(
    leading: Leading,
) -> None:
    leading.see("own 1")
    leading.refuse(above(WAITS), "a")
    leading.stale = ("Pod",)
    leading.preempted(above(WAITS), b=("uid-nobody",))
    leading.stale = ()
    leading.see("own 1")
    assert leading.told == []


def test_who_does_not_lead_takes_no_nomination_back(leading: Leading) -> None:
    leading.see("own 1")
    leading.preempted(MEANT, b=("uid-nobody",))
    leading.see(None, open_=False)
    leading.see("own 2")
    assert "meant not to a" not in leading.told
