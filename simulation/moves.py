"""What a seed makes of a world: move after move, recorded, with the laws checked after each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from random import Random

import msgspec

from extender.kube.objects import Node, NodeSpec, Pod, SchedulingGate
from simulation.scenario import Scenario
from simulation.world import World

_REST_SECONDS = 450
"""Until reservations (300 s) and the last retry of waking (60 s) are certainly over."""

_CALM_SECONDS = 110
"""Until what the last faults delayed is made good."""

_WAVES = range(_CALM_SECONDS, _CALM_SECONDS + 160, 20)
"""When some pods end, and some come."""

_LATE = range(_WAVES[-1] + 80, _WAVES[-1] + 180, 20)
"""When a pod comes while answers come late, and little else happens that has it tried again."""

_ENDS_PERCENT = 30

_GATED_PERCENT = 8
"""Of the pods that come, and how many gates hold back at first."""

_CLOUD = _WAVES[1] - 5
_CLOUDED_SECONDS = 30.0
"""When one watch breaks before that, and for how long at most."""


_OVERLOADED_SECONDS = 8.0
"""For so long answers come late, at most."""


class Move(msgspec.Struct, frozen=True):
    """One thing that happened, and the numbers that were drawn meanwhile."""

    name: str
    drawn: tuple[int, ...] = ()


class Player:
    """``step`` makes a move that the seed draws, ``play`` makes a given one."""

    def __init__(self, scenario: Scenario, seed: int = 0, *, begin: Move | None = None) -> None:
        self.world = World(scenario, seed, begin=begin.drawn if begin else None)
        self.moves = [Move("begin", tuple(self.world.choices.taken))]
        self.came = 0
        """How many pods have come."""
        self._random = Random(~seed)
        self._weights = tuple(accumulate((*_WEIGHTS, scenario.overloads)))

    def step(self) -> None:
        """Make a move: usually the next event, else something from outside."""
        self.world.choices.begin()
        self._make(self._random.choices(_NAMES, cum_weights=self._weights)[0])

    def rest(self) -> None:
        """Let everything come to rest, as a move."""
        self.world.choices.begin()
        self._make("rest")

    def play(self, move: Move) -> None:
        """Make a move again."""
        self.world.choices.begin(move.drawn)
        self._make(move.name)

    def _make(self, name: str) -> None:
        try:
            _MOVES[name](self)
            self.world.check()
        finally:
            self.moves.append(Move(name, tuple(self.world.choices.taken)))


def _next(player: Player) -> None:
    player.world.timeline.next()


def _come(player: Player) -> None:
    """Create some pods."""
    for _ in range(1 + player.world.choices.below(player.world.scenario.at_once)):
        _create(player)


def _create(player: Player) -> None:
    """Create a pod; now and then under the name of one that is gone."""
    world = player.world
    if len(world.asked()) >= world.scenario.max_pods:
        return
    again = bool(player.came) and world.choices.chance(10)
    number = world.choices.below(player.came) if again else player.came
    ask = world.scenario.ask(number, world.choices)
    if world.api.get(Pod, ask.pod.metadata.name) is not None:
        return
    player.came += 1
    uid = f"{ask.pod.metadata.name}-{player.came}"
    metadata = msgspec.structs.replace(
        ask.pod.metadata, uid=uid, creation_timestamp=world.api.stamp()
    )
    gates = (SchedulingGate(),) * world.choices.chance(_GATED_PERCENT)
    spec = msgspec.structs.replace(ask.pod.spec, scheduling_gates=gates)
    pod = msgspec.structs.replace(ask.pod, metadata=metadata, spec=spec)
    world.add(msgspec.structs.replace(ask, pod=pod))


def _open_gates(player: Player) -> None:
    """Let a pod be scheduled that gates hold back."""
    world = player.world
    if pods := [pod for pod in world.asked() if pod.spec.scheduling_gates]:
        _open(world, world.choices.one(pods))


def _open(world: World, pod: Pod) -> None:
    world.say(f"{pod.metadata.name} may be scheduled")
    spec = msgspec.structs.replace(pod.spec, scheduling_gates=())
    world.api.put(msgspec.structs.replace(pod, spec=spec))


def _resize(player: Player) -> None:
    world = player.world
    if pods := world.resizing.resizable():
        world.resizing.resize(world.choices.one(pods))


def _end(player: Player) -> None:
    world = player.world
    if pods := world.asked():
        pod = world.choices.one(pods)
        world.say(f"{pod.metadata.name} deleted")
        world.kubelets.end(pod)


def _finish(player: Player) -> None:
    world = player.world
    if pods := [pod for pod in world.asked() if pod.spec.node_name]:
        pod = world.choices.one(pods)
        world.say(f"{pod.metadata.name} finished")
        world.kubelets.finish(pod)


def _fail_loader(player: Player) -> None:
    world = player.world
    if pods := world.kubelets.loader_pods():
        world.kubelets.fail(world.choices.one(pods))


def _replace_loader(player: Player) -> None:
    world = player.world
    if pods := world.kubelets.loader_pods():
        pod = world.choices.one(pods)
        world.say(f"{pod.metadata.name} deleted")
        world.kubelets.end(pod)


def _take_back(player: Player) -> None:
    world = player.world
    if world.loaders is not None and (pods := world.kubelets.loader_pods()):
        world.loaders.take_back(world.choices.one(pods))


def _hang_loader(player: Player) -> None:
    world = player.world
    if world.loaders is not None and (pods := world.kubelets.loader_pods()):
        world.loaders.hang(world.choices.one(pods))


def _cordon(player: Player) -> None:
    world = player.world
    if nodes := list(world.api.all(Node)):
        node = world.choices.one(nodes)
        spec = NodeSpec(unschedulable=not node.spec.unschedulable)
        world.say(f"{node.metadata.name} {'' if spec.unschedulable else 'un'}cordoned")
        world.api.put(msgspec.structs.replace(node, spec=spec))


def _machine(player: Player) -> None:
    """Take a machine away, or bring one back, empty."""
    world = player.world
    machine = world.choices.one(world.machines)
    node = world.api.get(Node, machine.name)
    world.say(f"{machine.name} {'added' if node is None else 'removed'}")
    if node is None:
        world.add_machine(machine)
    else:
        world.api.delete(node)


def _cut(player: Player) -> None:
    world = player.world
    watch = world.choices.one([w for extender in world.extenders for w in extender.watches])
    long = world.choices.chance(20)
    away = world.choices.between(0.1, 200.0 if long else 5.0)
    listing = world.choices.between(0.01, 30.0 if long else 1.0)
    world.say(f"watch of {watch.kind.__name__}s cut for {away:.1f} s, {listing:.1f} s to list")
    watch.cut(away, listing)


def _jump(player: Player) -> None:
    """Set the extender's clock, but not without end: the laws make allowance for each jump."""
    world = player.world
    seconds = world.choices.one((1.0, 10.0, 400.0, -1.0, -20.0, -400.0))
    if world.laws.clocks.set_by(seconds):
        world.say(f"the extender's clock jumps by {seconds:+.0f} s")
        world.extender.skew += seconds


def _pause(player: Player) -> None:
    """Let time pass with whatever is due in it."""
    world = player.world
    world.timeline.until(world.timeline.now + world.choices.between(1.0, 60.0))


def _restart(player: Player) -> None:
    world = player.world
    world.say("extender restarted")
    world.restart()


def _lose_lead(player: Player) -> None:
    player.world.lose_lead()


def _overload(player: Player) -> None:
    world = player.world
    seconds = world.choices.between(0.5, _OVERLOADED_SECONDS)
    world.say(f"answers come late for {seconds:.1f} s")
    world.extender.overload.until = world.timeline.now + seconds


def _rest(player: Player) -> None:
    """Come to rest without faults: then nobody waits who could run, and nothing is kept.

    Once it is calm some pods end, again and again: that is when kube-scheduler hears of the room
    before we do.
    """
    world = player.world
    world.say("faults end")
    world.faults.on = False
    for extender in world.extenders:
        for watch in extender.watches:
            watch.cut(0.0, 0.0)
    _mend(world)
    for second in range(_REST_SECONDS):
        world.timeline.until(world.timeline.now + 1.0)
        if second == _CLOUD:
            _cloud(player)
        if second in _WAVES:
            if world.scenario.overloads:
                _overload(player)
            _end_some(player)
            _come(player)
        if second in _LATE and world.scenario.overloads:
            _overload(player)
            _create(player)
        if second >= _CALM_SECONDS:
            world.laws.waiting.nobody_waits(world.could() if world.answers() else {})
    world.laws.knowledge.at_rest()
    world.faults.on = True


def _mend(world: World) -> None:
    """Bring back every machine, and let it take pods: where there is none nobody waits in vain."""
    for machine in world.machines:
        node = world.api.get(Node, machine.name)
        if node is None:
            world.add_machine(machine)
        elif node.spec.unschedulable:
            world.api.put(msgspec.structs.replace(node, spec=NodeSpec()))
    for pod in [pod for pod in world.asked() if pod.spec.scheduling_gates]:
        _open(world, pod)


def _cloud(player: Player) -> None:
    """Break one watch for about as long as makes old knowledge of new, where that is soon.

    What happens meanwhile is over when it is known: then nothing more has anybody tried again.
    """
    world = player.world
    away = world.choices.between(0.0, min(2 * world.scenario.stale_seconds, _CLOUDED_SECONDS))
    world.choices.one(world.extender.watches).cut(away, 0.0)


def _end_some(player: Player) -> None:
    world = player.world
    for pod in world.asked():
        if pod.spec.node_name and world.choices.chance(_ENDS_PERCENT):
            world.say(f"{pod.metadata.name} deleted")
            world.kubelets.end(pod)


_CHANCES: dict[str, tuple[Callable[[Player], None], int]] = {
    "next": (_next, 850),
    "come": (_come, 50),
    "end": (_end, 30),
    "finish": (_finish, 10),
    "open gates": (_open_gates, 10),
    "resize": (_resize, 15),
    "fail loader": (_fail_loader, 8),
    "replace loader": (_replace_loader, 8),
    "take back": (_take_back, 6),
    "hang loader": (_hang_loader, 6),
    "cordon": (_cordon, 6),
    "machine": (_machine, 6),
    "cut": (_cut, 8),
    "jump": (_jump, 3),
    "pause": (_pause, 6),
    "restart": (_restart, 3),
    "lose lead": (_lose_lead, 5),
}
"""Moves, and how often each is made beside the others."""

_NAMES = (*_CHANCES, "overload")
_WEIGHTS = tuple(weight for _, weight in _CHANCES.values())
_MOVES = {
    **{name: move for name, (move, _) in _CHANCES.items()},
    "overload": _overload,
    "rest": _rest,
}
