"""A process of trainings on several: python -m tests.execution.watch_in_processes RANK FOLDER

All ranks train the same network on their shares of the batches by gloo, watched and unwatched. Rank 0 saves the weights
of all steps.
"""

import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

import fishertail
from fishertail.errors import UnsupportedModelError

WORLD, STEPS, MEASURED = 2, 4, [0, 1, 3]


def sharded(model: nn.Module) -> nn.Module:
    return fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(nn.parallel.DistributedDataParallel(model), backend="eager")


WAYS = {"ddp": nn.parallel.DistributedDataParallel, "ddp-compiled": compiled, "fsdp": sharded}
REFUSED = {"fsdp": sharded, "fsdp1": lambda m: FullyShardedDataParallel(m, device_id=torch.device("cpu"))}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 6, generator=generator), torch.arange(30) % 3


def make_watch(model: nn.Module, folder: Path) -> fishertail.Watch:
    return fishertail.Watch(model, *samples(), folder=folder / "watched", schedule=MEASURED, device="cpu")


def train(rank: int, way: str, folder: Path, watched: bool) -> None:
    model = network()
    watch = make_watch(model, folder) if watched and way == "fsdp" else None
    trained = WAYS[way](model)
    if watched and watch is None:
        watch = make_watch(trained, folder)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)
    images, labels = samples()
    torch.manual_seed(rank)
    states = {}
    for step in range(STEPS + 1):
        if watch is not None:
            found = watch(step)
            assert bool(found) == (rank == 0 and step in MEASURED), (rank, step, found)
        states[step] = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        states[step] = {name: tensor.clone() for name, tensor in states[step].items()}
        batch = torch.randperm(30)[:8]
        optimizer.zero_grad()
        nn.functional.cross_entropy(trained(images[batch]), labels[batch]).backward()
        optimizer.step()
    if rank == 0:
        torch.save(states, folder / f"{'watched' if watched else 'alone'}.pt")


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD)
    for way in WAYS:
        (folder / way).mkdir(exist_ok=True)
        train(rank, way, folder / way, watched=True)
        train(rank, way, folder / way, watched=False)
    for way, shard in REFUSED.items():
        try:
            make_watch(shard(network()), folder / "refused")
        except UnsupportedModelError as error:
            print(f"{way} refused: {error}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
