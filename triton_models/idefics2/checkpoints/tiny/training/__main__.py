"""Makes, measures and describes the checkpoint: `python -m training train`, `keep`, `evaluate`, `card`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from training.plan import Lesson

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent
EVALUATION = CHECKPOINT / "evaluation.json"
CARD = CHECKPOINT / "README.md"
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"
NUM_SHARDS = 80
"""Of the pool: 160,000 pictures, 6.4 GB on disk and 9.5 GB in memory."""


def main(command: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _parse_arguments(command)
    does = {"train": _train, "keep": _keep, "evaluate": _evaluate, "card": _card}
    return does[arguments.command](arguments)


def _train(arguments: argparse.Namespace) -> int:
    """Draw, train, export; goes on where it stopped before."""
    import torch  # noqa: PLC0415  # slow to import, and no one else needs it

    from training import tokens  # noqa: PLC0415
    from training.curve import draw_curve  # noqa: PLC0415
    from training.export import export  # noqa: PLC0415
    from training.plan import Plan  # noqa: PLC0415
    from training.pool import SHARD, Pool, draw_pool  # noqa: PLC0415
    from training.train import REPORT_STEPS, Trainer  # noqa: PLC0415

    folder: Path = arguments.folder
    workers = len(os.sched_getaffinity(0))
    for done in draw_pool(folder / "pool", arguments.shards, arguments.seed, workers):
        print(f"drawn: {done * SHARD:,} of {arguments.shards * SHARD:,} pictures", flush=True)
    run = folder / "run"
    run.mkdir(exist_ok=True)
    if not (run / "tokenizer").exists():
        tokens.build(run / "tokenizer", arguments.seed)
    torch.set_num_threads(workers)
    lesson = Lesson[arguments.lesson.upper()]
    plan = Plan(seed=arguments.seed).skip_to(lesson).shorten(arguments.share)
    examples = Pool(folder / "pool", arguments.shards)
    gc.collect()
    gc.freeze()  # or each collection would look at a million things that stay
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it would warn of each process that writes
    trainer = Trainer(plan, examples, run, arguments.first)
    if arguments.compile and trainer.device.type == "cpu":
        trainer.learner.compile_parts()
    print(f"trains on {trainer.describe_device()}", flush=True)
    for report in trainer.run():
        left = (plan.num_steps - trainer.step) * report["seconds"] / REPORT_STEPS / 60
        print(
            f"step {trainer.step} of {plan.num_steps}: {_tell(report)}, {left:.0f} minutes to go", flush=True
        )
    export(run / "state.pt", run / "tokenizer", arguments.checkpoint)
    draw_curve(run / "log.jsonl", arguments.checkpoint / "curve.png")
    return 0


def _keep(arguments: argparse.Namespace) -> int:
    """Keep the weights that training has so far, for another run to begin with."""
    from training.first import keep_weights  # noqa: PLC0415

    keep_weights(arguments.folder / "run" / "state.pt", arguments.file)
    return 0


def _tell(report: dict[str, float]) -> str:
    """Say how many answers are right, and of how many things the latents know all; first only the loss."""
    shares = (("right all", "answers"), ("things", "things"))
    right = [f"{report[name]:.1%} of {what} right" for name, what in shares if name in report]
    return ", ".join(right) or f"patches' loss {report['patches']:.2f}"


def _evaluate(arguments: argparse.Namespace) -> int:
    """Ask, keep the scores, and put them into the card."""
    from idefics2_service import logs  # noqa: PLC0415
    from idefics2_service.settings import LogSettings  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from training import evaluate  # noqa: PLC0415

    logs.configure(LogSettings(level="warning"))  # or each of so many requests would have its line
    with Progress() as progress:
        task = progress.add_task("asking", total=arguments.count)
        show = lambda done: progress.update(task, completed=done)  # noqa: E731
        scores = asyncio.run(evaluate.evaluate(arguments.count, arguments.seed, show))
    print(evaluate.render(scores))
    if arguments.keep:
        evaluate.write(scores, EVALUATION)
        CARD.write_text(_put(CARD.read_text()))
    return 0


def _card(arguments: argparse.Namespace) -> int:
    """Tell whether the card shows the scores that were kept."""
    del arguments
    if CARD.read_text() == _put(CARD.read_text()):
        return 0
    print(f"{CARD}: its table is not that of {EVALUATION.name}; mend it with: make eval", file=sys.stderr)
    return 1


def _put(card: str) -> str:
    from training import evaluate  # noqa: PLC0415

    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{CARD} needs a line {BEGIN} and, below it, a line {END}")
    return f"{before}{BEGIN}\n{evaluate.render(evaluate.read(EVALUATION))}\n{END}{after}"


def _parse_arguments(command: Sequence[str] | None) -> argparse.Namespace:
    lessons = [lesson.name.lower() for lesson in Lesson]
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="make the checkpoint from nothing, or go on with it")
    train.add_argument("--folder", type=Path, required=True, help="for pictures and states: 9 GB")
    train.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="where the checkpoint goes")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--shards", type=int, default=NUM_SHARDS, help="2,000 pictures each")
    train.add_argument("--share", type=float, default=1, help="of the steps, to see whether all works")
    train.add_argument(
        "--first", type=Path, help="weights to begin with, as `keep` writes them or a checkpoint's"
    )
    train.add_argument(
        "--lesson",
        choices=lessons,
        default=lessons[0],
        help="begin with this one: weights that know what those before it teach are given by --first",
    )
    train.add_argument("--compile", action="store_true", help="steps on a CPU; needs g++")
    keep = commands.add_parser("keep", help="write the weights that training has so far, in float16")
    keep.add_argument("--folder", type=Path, required=True, help="of training")
    keep.add_argument("file", type=Path, help="where they go, as safetensors")
    judge = commands.add_parser("evaluate", help="ask the service about fresh pictures")
    judge.add_argument("--count", type=int, default=2_000, help="of pictures")
    judge.add_argument("--seed", type=int, default=20_261_122)
    judge.add_argument("--keep", action="store_true", help=f"write {EVALUATION.name} and the card's table")
    commands.add_parser("card", help="check that the card shows the scores that were kept")
    return parser.parse_args(command)


if __name__ == "__main__":
    sys.exit(main())
