"""23 Distributed: several processes train one model, and end with the weights of one.

Every process runs the same program on a share of the data. Here the processes are
started by torch.multiprocessing, as mp.spawn does; torchrun does it for a whole file.
"""

import argparse
import datetime
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

# mp.spawn starts each process afresh, and each imports torch. On Linux "forkserver"
# imports it once, and copies that process.
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
multiprocessing.set_forkserver_preload(["torch._dynamo", "torch.distributed.optim"])
# It says whom it ends when a rank has failed; on_ranks says why.
logging.getLogger("torch.multiprocessing").setLevel(logging.ERROR)


# Starting the ranks: no need to read on before section 1.
def end_with_parent():
    """Wait for the process that has started this one, and end when it has ended."""
    multiprocessing.parent_process().join()
    os._exit(1)


def one_rank(rank, function, world_size, folder, seconds, arguments):
    """What each process runs: meet the others, call function(rank, ...), and leave."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if sys.platform != "win32":  # they talk without a network
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    try:
        dist.init_process_group(
            "gloo",
            init_method=(Path(folder) / "meet").as_uri(),
            timeout=datetime.timedelta(seconds=seconds),
            world_size=world_size,
            rank=rank,
        )
        result = function(rank, *arguments)
        torch.save(result, Path(folder) / f"result_{rank}")
        dist.barrier()  # destroy_process_group() of torch 2.0 may wait for itself
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        (Path(folder) / f"error_{rank}").write_text(reason, "utf-8")
        sys.exit(1)


def on_ranks(world_size, function, *arguments, seconds=60):
    """[function(rank, *arguments) of each rank], each in a process of its own.

    A rank waits so many seconds for the others at most. If one fails, all are ended,
    and RuntimeError says how it failed.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shared = (function, world_size, folder, seconds, arguments)
        try:
            mp.start_processes(
                one_rank, shared, nprocs=world_size, start_method=START_METHOD
            )
        except mp.ProcessExitedException as error:
            rank = error.error_index
            reason = f"ended with status {error.exit_code}"
            said = Path(folder) / f"error_{rank}"
            if said.exists():
                reason = said.read_text("utf-8")
            raise RuntimeError(f"rank {rank}: {reason}") from None
        files = [Path(folder) / f"result_{rank}" for rank in range(world_size)]
        return [torch.load(file, weights_only=True) for file in files]


# What the ranks train, and how it is saved.
def model_and_data(device="cpu"):
    """An 8-16-1 network, x (32, 8) and y (32, 1), float64, the same on every rank."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        x = torch.randn(32, 8, dtype=torch.float64)
    return model.to(device), x.to(device), x.sum(dim=1, keepdim=True).to(device)


def save(state, path):
    """Write the state beside path, then rename: path is whole at each moment."""
    part = Path(f"{path}.part")
    with part.open("wb") as file:  # as in lesson 20
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


# %% 1. Every rank runs the same program
# A process has a number, its rank. They meet in a file that all of them know.
def collectives(rank):
    """What this rank holds before, and after three calls that all ranks make."""
    mine = torch.tensor([10 * rank, 10 * rank + 1])
    total = mine.clone()
    dist.all_reduce(total)
    from_rank_1 = mine.clone()
    dist.broadcast(from_rank_1, src=1)
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    return [mine, total, from_rank_1, torch.cat(parts)]


def show_1(device):
    print("\n1. Every rank runs the same program")
    for rank, tensors in enumerate(on_ranks(4, collectives)):
        mine, total, from_rank_1, gathered = tensors
        print(f"   rank {rank}   holds        {mine.tolist()}")
        print(f"            all_reduce   {total.tolist()}")
        print(f"            broadcast    {from_rank_1.tolist()}")
        print(f"            all_gather   {gathered.tolist()}")


# %% 2. Each rank takes a share of the batch
# Every rank has the whole model. The mean of the gradients of equal shares is the
# gradient of the whole batch.
def gradient_of(model):
    """The gradients of all parameters in one vector, on the CPU."""
    parts = [parameter.grad.flatten().cpu() for parameter in model.parameters()]
    return torch.cat(parts)


def gradient_of_one_process(device="cpu"):
    """The gradient of the mean loss of all 32 samples, (161,), without any ranks."""
    model, x, y = model_and_data(device)
    loss = F.mse_loss(model(x), y)
    loss.backward()
    return gradient_of(model)


def gradient_by_hand(rows, device):
    """The same on each rank: the gradient of its rows, added up and divided."""
    model, x, y = model_and_data(device)
    loss = F.mse_loss(model(x[rows]), y[rows])
    loss.backward()
    gradient = gradient_of(model)
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()


def gradient_by_ddp(rows, device):
    """The same by DistributedDataParallel, which averages while backward runs."""
    model, x, y = model_and_data(device)
    parallel = DistributedDataParallel(model)
    loss = F.mse_loss(parallel(x[rows]), y[rows])
    loss.backward()
    return gradient_of(model)


def both_gradients(rank, device):
    """[by hand, by DDP] where each rank has an equal share of the 32 rows."""
    rows = torch.arange(32).tensor_split(dist.get_world_size())[rank]
    return [gradient_by_hand(rows, device), gradient_by_ddp(rows, device)]


def as_text(vector):
    """The first three numbers of a vector, rounded."""
    return "  ".join(f"{number:8.5f}" for number in vector[:3].tolist())


def show_2(device):
    print("\n2. Each rank takes a share of the batch")
    whole = gradient_of_one_process(device)
    print(f"   one process, 32 samples           {as_text(whole)}")
    for rank, gradients in enumerate(on_ranks(4, both_gradients, device)):
        by_hand, by_ddp = gradients
        print(f"   rank {rank} of 4, 8 samples, by hand   {as_text(by_hand)}")
        print(f"   rank {rank} of 4, 8 samples, by DDP    {as_text(by_ddp)}")


# %% 3. Mistake: the mean of unequal means
# Rank 0 has 2 samples, rank 1 has 30. The mean of their means counts a sample of rank 0
# fifteen times.
def weighted_gradient(rows, device):
    """The mean of the ranks' gradients where each has first weighted its loss.

    The weight is its part of all samples, times the number of ranks.
    """
    model, x, y = model_and_data(device)
    loss = F.mse_loss(model(x[rows]), y[rows])
    weight = len(x[rows]) / len(x) * dist.get_world_size()
    (weight * loss).backward()
    gradient = gradient_of(model)
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()


def gradients_of_unequal_shares(rank, sizes, device):
    """[the mean of the means, the weighted mean] with sizes[rank] samples on each."""
    start = sum(sizes[:rank])
    rows = slice(start, start + sizes[rank])
    return [gradient_by_hand(rows, device), weighted_gradient(rows, device)]


def show_3(device):
    print("\n3. Mistake: the mean of unequal means")
    print("   the first three numbers of the gradient")
    whole = gradient_of_one_process(device)
    print(f"   one process, 32 samples             {as_text(whole)}")
    gradients, _ = on_ranks(2, gradients_of_unequal_shares, [2, 30], device)
    mean_of_means, weighted = gradients
    print(f"   2 and 30 samples, mean of means     {as_text(mean_of_means)}")
    print(f"   2 and 30 samples, weighted          {as_text(weighted)}")


# %% 4. The sampler deals out the rows
# All ranks must make as many steps. So where the rows do not come out even, some of
# them are dealt out twice.
def rows_of_rank(row_count, rank, world_size, shuffle=False, epoch=None):
    """Which of the rows 0 ... row_count - 1 DistributedSampler deals to this rank."""
    sampler = DistributedSampler(range(row_count), world_size, rank, shuffle=shuffle)
    if epoch is not None:
        sampler.set_epoch(epoch)
    return list(sampler)


def accuracy_of_shares(right, shares):
    """The accuracy over what the ranks hold, rows that came twice counted twice."""
    rows = []
    for share in shares:
        rows += share
    return sum(right[row] for row in rows) / len(rows)


def show_4(device):
    print("\n4. The sampler deals out the rows")
    shares = [rows_of_rank(10, rank, world_size=4) for rank in range(4)]
    for rank, share in enumerate(shares):
        print(f"   10 rows, rank {rank} of 4   {share}")
    right = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    print(f"   7 of 10 are right        accuracy {sum(right) / 10:.2f}")
    wrong = accuracy_of_shares(right, shares)
    print(f"   counted over the shares  accuracy {wrong:.2f}")
    for epoch in (0, 1):
        share = rows_of_rank(10, 0, world_size=2, shuffle=True)
        print(f"   shuffled, epoch {epoch}, rank 0 of 2               {share}")
    for epoch in (0, 1):
        share = rows_of_rank(10, 0, world_size=2, shuffle=True, epoch=epoch)
        print(f"   shuffled, epoch {epoch}, rank 0 of 2, set_epoch    {share}")


# %% 5. A rank dies
# The others cannot go on: all end, all start again, and load the last checkpoint.
def train(rank, path, dies_at=None):
    """[first step, weights after step 20], from the checkpoint at path if there is one.

    Rank 0 saves after every 5 steps. Rank 1 ends itself before step dies_at, from 0.
    """
    model, x, y = model_and_data()
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    first = 0
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    rows = slice(16 * rank, 16 * rank + 16)  # of two ranks
    for step in range(first, 20):
        if rank == 1 and step == dies_at:
            os._exit(3)  # as if the machine had been switched off
        loss = F.mse_loss(parallel(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0 and (step + 1) % 5 == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save(state | {"step": step + 1}, path)
    return [first, nn.utils.parameters_to_vector(model.parameters()).detach()]


def show_5(device):
    print("\n5. A rank dies")
    with tempfile.TemporaryDirectory() as folder:
        [[_, undisturbed], _] = on_ranks(2, train, f"{folder}/undisturbed.pt")
        try:
            on_ranks(2, train, f"{folder}/disturbed.pt", 12)
        except RuntimeError as error:
            print(f"   rank 1 dies before step 12: {type(error).__name__}")
        [[first, weights], _] = on_ranks(2, train, f"{folder}/disturbed.pt")
    print(f"   started again, it goes on from step {first}")
    print(f"   undisturbed, three weights           {as_text(undisturbed)}")
    print(f"   disturbed and resumed                {as_text(weights)}")
    print(
        f"   the same to the last bit             {torch.equal(weights, undisturbed)}"
    )


# %% 6. all_reduce in a ring
# Each rank sends to the next alone: n - 1 rounds sum up, n - 1 more hand the sums on.
def ring(rank, numbers):
    """[all_reduce of (rank + 1) * arange(numbers), bytes that this rank sent]."""
    n = dist.get_world_size()
    mine = (rank + 1) * torch.arange(numbers)
    blocks = list(mine.tensor_split(n))
    sent = 0
    for step in range(2 * (n - 1)):
        block = blocks[(rank - step) % n]  # goes to the next rank
        place = (rank - step - 1) % n  # where the one that comes in belongs
        received = torch.empty_like(blocks[place])
        request = dist.isend(block, (rank + 1) % n)
        dist.recv(received, (rank - 1) % n)
        request.wait()
        sent += block.numel() * block.element_size()
        if step < n - 1:  # first half: add up
            blocks[place] = blocks[place] + received
        else:  # second half: hand the sums on
            blocks[place] = received
    return [torch.cat(blocks), sent]


def ring_bytes_in_theory(n, numbers):
    """What each of n ranks sends of so many numbers of 8 bytes, a multiple of n."""
    return 2 * (n - 1) * 8 * numbers // n


def show_6(device):
    print("\n6. all_reduce in a ring")
    print("   4 ranks have 1000 numbers each, 8000 bytes")
    for rank, result in enumerate(on_ranks(4, ring, 1000)):
        sums, sent = result
        print(f"   rank {rank}   the last sum {sums[-1].item()}   sent {sent} bytes")
    theory = ring_bytes_in_theory(4, 1000)
    print(f"   theory   the last sum {(1 + 2 + 3 + 4) * 999}   sent {theory} bytes")


# %% 7. Each rank keeps a part
# Where the model does not fit, the optimizer's state is cut up, or the layers are.
def adam_bytes(rank):
    """The bytes of Adam's m and v that ZeroRedundancyOptimizer keeps on this rank."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    parameters = [torch.zeros(1000, requires_grad=True) for _ in range(4)]
    optimizer = ZeroRedundancyOptimizer(parameters, torch.optim.Adam)
    for parameter in parameters:
        parameter.grad = torch.ones(1000)
    optimizer.step()
    kept = 0
    for state in optimizer.optim.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            kept += state[name].numel() * state[name].element_size()
    return kept


def tensor_parallel(rank):
    """[weights kept, output (32, 1)] where each rank has a part of the hidden units."""
    model, x, _ = model_and_data()
    first, _, second = model
    n = dist.get_world_size()
    rows = first.weight.chunk(n)[rank]
    columns = second.weight.chunk(n, dim=1)[rank]
    with torch.no_grad():
        hidden = (x @ rows.T + first.bias.chunk(n)[rank]).tanh()
        output = hidden @ columns.T
        dist.all_reduce(output)
        output += second.bias
    return [rows.numel() + columns.numel(), output]


def both_parts(rank):
    """[bytes of Adam, weights, output] of this rank."""
    weights, output = tensor_parallel(rank)
    return [adam_bytes(rank), weights, output]


def show_7(device):
    print("\n7. Each rank keeps a part")
    model, x, _ = model_and_data()
    output = model(x)[0].item()
    print(f"   whole    Adam 32000 bytes   weights 144   output {output:.5f}")
    for rank, result in enumerate(on_ranks(4, both_parts)):
        kept, weights, output = result
        numbers = f"weights {weights:>3}   output {output[0].item():.5f}"
        print(f"   rank {rank}   Adam {kept:>5} bytes   {numbers}")


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
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7]


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
