"""Makes, measures and describes the checkpoint: `python -m training train`, `evaluate`, `card`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent
EVALUATION = CHECKPOINT / "evaluation.json"
CARD = CHECKPOINT / "README.md"
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"
NUM_SHARDS = 80
"""Of the pool: 160,000 pictures, some 6 GB of memory."""


def main() -> int:
    """Run the command line; return its exit status."""
    arguments = _parse_arguments()
    return {"train": _train, "evaluate": _evaluate, "card": _card}[arguments.command](arguments)


def _train(arguments: argparse.Namespace) -> int:
    """Draw, train, export; goes on where it stopped before."""
    import torch  # noqa: PLC0415  # slow to import, and no one else needs it

    from training import tokens  # noqa: PLC0415
    from training.curve import draw_curve  # noqa: PLC0415
    from training.export import export  # noqa: PLC0415
    from training.pool import SHARD, Pool, draw_pool  # noqa: PLC0415
    from training.train import Plan, Trainer  # noqa: PLC0415

    folder: Path = arguments.folder
    workers = len(os.sched_getaffinity(0))
    for done in draw_pool(folder / "pool", arguments.shards, arguments.seed, workers):
        print(f"drawn: {done * SHARD:,} of {arguments.shards * SHARD:,} pictures", flush=True)
    run = folder / "run"
    run.mkdir(exist_ok=True)
    if not (run / "tokenizer").exists():
        tokens.build(run / "tokenizer", arguments.seed)
    torch.set_num_threads(workers)
    plan = Plan(seed=arguments.seed)
    examples = Pool(folder / "pool", arguments.shards)
    gc.collect()
    gc.freeze()  # or each collection would look at a million things that stay
    trainer = Trainer(plan, examples, run)
    for report in trainer.run():
        left = (plan.num_steps - trainer.step) * float(report["seconds"]) / 50 / 60
        right = report.get("right all", 0)
        print(
            f"step {trainer.step} of {plan.num_steps}: {right:.1%} right, {left:.0f} minutes to go",
            flush=True,
        )
    export(run / "state.pt", run / "tokenizer", arguments.checkpoint)
    draw_curve(run / "log.jsonl", arguments.checkpoint / "curve.png")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    """Ask, keep the scores, and put them into the card."""
    from rich.progress import Progress  # noqa: PLC0415

    from training import evaluate  # noqa: PLC0415

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

    before, _, rest = card.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{evaluate.render(evaluate.read(EVALUATION))}\n{END}{after}"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="make the checkpoint from nothing, or go on with it")
    train.add_argument("--folder", type=Path, required=True, help="for pictures and states: 8 GB")
    train.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="where the checkpoint goes")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--shards", type=int, default=NUM_SHARDS, help="2,000 pictures each")
    judge = commands.add_parser("evaluate", help="ask the service about fresh pictures")
    judge.add_argument("--count", type=int, default=2_000, help="of pictures")
    judge.add_argument("--seed", type=int, default=20_261_122)
    judge.add_argument("--keep", action="store_true", help=f"write {EVALUATION.name} and the card's table")
    commands.add_parser("card", help="check that the card shows the scores that were kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
