"""23 Distributed: several processes train one model, and end with the weights of one.

Started plainly, it starts its own workers; torchrun makes it one of several.
"""

import argparse
import contextlib
import datetime
import functools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# Four workers, started once and asked often: no need to read on before section 1.
def work(rank, folder, pipe):
    """A worker: join the others, then call what comes through the pipe till the end."""
    # Ctrl-C ends the parent, and so the pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    if sys.platform != "win32":  # loopback: they talk without a network
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    meet, timeout = (Path(folder) / "meet").as_uri(), datetime.timedelta(minutes=2)
    dist.init_process_group("gloo", meet, timeout, world_size=4, rank=rank)
    groups = {size: dist.new_group(list(range(size))) for size in (1, 2, 4)}
    pipe.send("joined")
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while True:
            function, size, arguments = pipe.recv()
            try:
                pipe.send((function(rank, groups[size], *arguments), None))
            except Exception as error:
                pipe.send((None, f"{type(error).__name__}: {error}"))


@functools.cache
def workers():
    """[(process, pipe), ...] of four; on Linux forked off a process that has torch."""
    method = "forkserver" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    if sys.platform == "linux":
        context.set_forkserver_preload(["torch._dynamo", "torch.distributed.optim"])
    started = []
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(4):
            pipe, other = context.Pipe()
            arguments = rank, folder, other
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            other.close()
            started.append((process, pipe))
        for _, pipe in started:
            pipe.recv()
    return started


def together(function, size, *arguments, seconds=60):
    """[function(rank, group, *arguments) of each rank]; RuntimeError if one fails."""
    chosen, answers = workers()[:size], []
    deadline = time.monotonic() + seconds
    try:
        for _, pipe in chosen:
            with contextlib.suppress(OSError):  # it has ended, as is seen below
                pipe.send((function, size, arguments))
        for process, pipe in chosen:
            answer = None, f"no answer within {seconds} seconds"
            try:
                if pipe.poll(deadline - time.monotonic()):
                    answer = pipe.recv()
            except (EOFError, OSError):
                process.join()
                answer = None, f"ended with status {process.exitcode}"
            answers.append(answer)
        errors = []
        for rank, (_, error) in enumerate(answers):
            if error:
                errors.append(f"rank {rank}: {error}")
        if errors:
            errors.sort(key=lambda error: "ended with" not in error)
            raise RuntimeError("; ".join(errors))
    except BaseException:
        # Ctrl-C too: a late answer must not be taken for the next one
        for process, _ in workers():
            process.kill()
        workers.cache_clear()
        raise
    return [result for result, _ in answers]


# %% 1. Every rank runs the same program; collectives join them
def collectives(rank, group):
    """Name -> what this rank holds after it, where it held [10 rank, 10 rank + 1]."""
    mine = torch.tensor([10 * rank, 10 * rank + 1])
    total, of_rank_1 = mine.clone(), mine.clone()
    dist.all_reduce(total, group=group)
    dist.broadcast(of_rank_1, src=1, group=group)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, mine, group=group)
    gathered = torch.cat(gathered).tolist()
    return {
        "all_reduce": total.tolist(),
        "broadcast": of_rank_1.tolist(),
        "all_gather": gathered,
    }


def show_1(device):
    print("\n1. Every rank runs the same program; collectives join them")
    found = together(collectives, 4)
    for name, held in found[0].items():
        same = all(held == one[name] for one in found)
        print(f"   {name}: {held}, the same on all: {same}")


# %% 2. all_reduce in a ring
# Each rank sends to the next alone: n - 1 rounds sum up, n - 1 more hand the sums on.
def ring(rank, group, numbers):
    """(all_reduce of (rank + 1) * arange(numbers), by hand, bytes that it sent)."""
    n = dist.get_world_size(group)
    blocks, sent = list(((rank + 1) * torch.arange(numbers)).tensor_split(n)), 0
    for step in range(2 * (n - 1)):
        mine, place = blocks[(rank - step) % n], (rank - step - 1) % n
        received = torch.empty_like(blocks[place])
        request = dist.isend(mine, (rank + 1) % n, group=group)
        dist.recv(received, (rank - 1) % n, group=group)
        request.wait()
        sent += mine.numel() * mine.element_size()
        blocks[place] = blocks[place] + received if step < n - 1 else received
    return torch.cat(blocks).tolist(), sent


def show_2(device):
    print("\n2. all_reduce in a ring")
    for n in (2, 4):
        (sums, sent), *_ = together(ring, n, 1000)
        right = sums == [number * n * (n + 1) // 2 for number in range(1000)]
        theory = 2 * (n - 1) * 8000 // n
        print(f"   {n} ranks: right {right}, each sends {sent}, theory {theory}")


# %% 3. Data parallel: each rank takes a share of the batch, gradients are averaged
def model_and_data(device="cpu"):
    """An 8-16-1 network, x (32, 8) and y (32, 1), float64, the same on every rank."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        x = torch.randn(32, 8, dtype=torch.float64)
    return model.to(device), x.to(device), x.sum(dim=1, keepdim=True).to(device)


def gradient(model, loss):
    """The gradient of loss by all parameters of model, in one vector on the CPU."""
    model.zero_grad()
    loss.backward()
    parts = [parameter.grad.flatten().cpu() for parameter in model.parameters()]
    return torch.cat(parts)


def by_hand(rank, group, device, sizes, corrected=True):
    """The largest |mean of the shares' gradients - that of the whole batch|."""
    model, x, y = model_and_data(device)
    whole = gradient(model, F.mse_loss(model(x), y))
    share = sizes[rank] * len(sizes) / sum(sizes) if corrected else 1
    loss = F.mse_loss(model(x.split(sizes)[rank]), y.split(sizes)[rank])
    mean = gradient(model, share * loss)
    dist.all_reduce(mean, group=group)
    return (mean / len(sizes) - whole).abs().max().item()


def by_ddp(rank, group, device):
    """The same by DistributedDataParallel, which averages during backward."""
    model, x, y = model_and_data(device)
    whole = gradient(model, F.mse_loss(model(x), y))
    parallel = nn.parallel.DistributedDataParallel(model, process_group=group)
    n = group.size()
    loss = F.mse_loss(parallel(x.chunk(n)[rank]), y.chunk(n)[rank])
    return (gradient(model, loss) - whole).abs().max().item()


def show_3(device):
    title = (
        "Data parallel: each rank takes a share of the batch, gradients are averaged"
    )
    print(f"\n3. {title}")
    for n in (1, 2, 4):
        hand = max(together(by_hand, n, device, n * [32 // n])) < 1e-12
        ddp = max(together(by_ddp, n, device)) < 1e-12
        print(f"   {n} ranks, as one process to 1e-12: by hand {hand}, DDP {ddp}")


# %% 4. Mistake: the mean of unequal means
def show_4(device):
    print("\n4. Mistake: the mean of unequal means")
    for corrected in (False, True):
        same = max(together(by_hand, 2, device, [2, 30], corrected)) < 1e-12
        result = f"corrected={corrected!s:<5}   as one process: {same}"
        print(f"   2 and 30 samples, {result}")


# %% 5. Each rank keeps a part: of the optimizer's state, or of each layer
def adam_bytes(rank, group):
    """The bytes of Adam's m and v that ZeroRedundancyOptimizer keeps on this rank."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    parameters = [torch.zeros(1000, requires_grad=True) for _ in range(4)]
    adam = torch.optim.Adam
    optimizer = ZeroRedundancyOptimizer(parameters, adam, process_group=group)
    sum(parameter.sum() for parameter in parameters).backward()
    optimizer.step()
    kept = 0
    for state in optimizer.optim.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            kept += state[name].numel() * state[name].element_size()
    return kept


def tensor_parallel(rank, group):
    """(weights kept, largest |output - the whole's|), a share of the units on each."""
    model, x, _ = model_and_data()
    n, (first, _, second) = dist.get_world_size(group), model
    with torch.no_grad():
        rows, columns = first.weight.chunk(n)[rank], second.weight.chunk(n, dim=1)[rank]
        output = (x @ rows.T + first.bias.chunk(n)[rank]).tanh() @ columns.T
        dist.all_reduce(output, group=group)
        output += second.bias
    return rows.numel() + columns.numel(), (output - model(x)).abs().max().item()


def show_5(device):
    print("\n5. Each rank keeps a part: of the optimizer's state, or of each layer")
    for n in (1, 2, 4):
        (weights, difference), *_ = together(tensor_parallel, n)
        layers = f"layers {weights} weights, right to 1e-12: {difference < 1e-12}"
        adam = together(adam_bytes, n)[0]
        print(f"   {n} ranks: Adam {adam} bytes on each, {layers}")


# %% 6. A worker dies, and the training ends as if it had not
def trained(rank, group, folder, dies_at=None):
    """(first step, weights after step 20), from folder's checkpoint; rank 1 may die."""
    model, x, y = model_and_data()
    parallel = nn.parallel.DistributedDataParallel(model, process_group=group)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    path, n, first = Path(folder) / "run.pt", dist.get_world_size(group), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, 20):
        if (rank, step) == (1, dies_at):
            os._exit(3)
        optimizer.zero_grad()
        F.mse_loss(parallel(x.chunk(n)[rank]), y.chunk(n)[rank]).backward()
        optimizer.step()
        if rank == 0 and (step + 1) % 5 == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            with path.with_suffix(".part").open("wb") as file:  # as in lesson 20
                torch.save({**state, "step": step + 1}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path.with_suffix(".part"), path)
    return first, nn.utils.parameters_to_vector(model.parameters()).tolist()


def restarted(dies_at):
    """(error, first step of the second attempt, True if it ends as if undisturbed)."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as other,
    ):
        (_, undisturbed), _ = together(trained, 2, other)
        error = None
        try:
            together(trained, 2, folder, dies_at)
        except RuntimeError as failure:
            error = str(failure).split(";")[0]
        (first, weights), _ = together(trained, 2, folder)
    return error, first, weights == undisturbed


def one_of_several():
    """For a process of torchrun: (rank, first step, True if it ends as undisturbed)."""
    dist.init_process_group("gloo")
    name = f"lesson_20_{os.environ['TORCHELASTIC_RUN_ID']}"
    folder = Path(tempfile.gettempdir()) / name
    again = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
    dies_at = None if again else int(os.environ.get("DIES_AT", -1))
    first, weights = trained(dist.get_rank(), None, folder / "disturbed", dies_at)
    _, undisturbed = trained(dist.get_rank(), None, folder / "undisturbed")
    dist.barrier()
    shutil.rmtree(folder, ignore_errors=True)
    return dist.get_rank(), first, weights == undisturbed


def show_6(device):
    print("\n6. A worker dies, and the training ends as if it had not")
    error, first, same = restarted(dies_at=12)
    print(f"   {error}")
    print(f"   started again from step {first}, ends with the same bits: {same}")


# %% The picture
def figure(device="cpu"):
    """The ring of four: of how many ranks each block is the sum, after each round."""
    from matplotlib.figure import Figure

    counts = [torch.ones(4, 4)]  # (rank, block)
    for step in range(6):
        counts.append(counts[-1].clone())
        for rank in range(4):
            place = (rank - step - 1) % 4
            counts[-1][rank, place] = counts[-2][rank - 1, place] + (step < 3)
    fig = Figure(figsize=(9, 2), layout="constrained")
    for number, axes in enumerate(fig.subplots(1, 7, sharey=True)):
        axes.imshow(counts[number].numpy(), vmin=1, vmax=4)
        axes.set(xlabel="block", xticks=range(4), yticks=range(4))
        axes.set_title(f"after {number}")
    fig.colorbar(axes.images[0], label="ranks in the sum", ticks=range(1, 5))
    fig.axes[0].set_ylabel("rank")
    return fig


# %% Run it
TITLE = "23 Distributed"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6]


# torchrun starts this file as one of several processes: each says how it went.
if __name__ == "__main__" and "TORCHELASTIC_RUN_ID" in os.environ:
    rank, first, same = one_of_several()
    line = f"rank {rank}: from step {first} on, ends with the same bits: {same}\n"
    print(line, end="")  # in one piece, newline and all: the other process prints too
    sys.exit()


# %% The command line: the same in every lesson, no need to read on
def main(device, section=None):
    """Print the title and all sections, or only the one with this number."""
    print(f"{TITLE} on {device}")
    for number, show in enumerate(SECTIONS, start=1):
        if section is None or section == number:
            show(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    numbers = range(1, len(SECTIONS) + 1)
    parser.add_argument("--section", metavar="N", type=int, choices=numbers)
    parser.add_argument("--figure", metavar="FILE", help="save as .png, .svg or .pdf")
    args = parser.parse_args()
    try:
        (torch.ones(1, device=args.device) + 1).item()
    except RuntimeError as error:  # a card that this build of torch cannot use
        reason = str(error).splitlines()[0]
        sys.exit(f"--device {args.device}: {reason}; see lessons/01_install_check.py")
    try:
        main(args.device, args.section)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, head for instance, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if args.figure is not None:
        fig = figure(args.device)
        part = f"{args.figure}.part"  # an old picture stays until the new one is whole
        try:
            fig.savefig(part, format=args.figure.rpartition(".")[2])
            os.replace(part, args.figure)
        except (OSError, ValueError) as error:
            if os.path.exists(part):
                os.remove(part)
            parser.error(f"--figure {args.figure!r}: {error}")
