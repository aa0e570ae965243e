"""What training loses if images are shuffled in blocks instead of all together, as is done for maps of decoded images
that are larger than half of the memory.

CIFAR-10's files are listed class by class, so a block holds images of one class: the hard case. A group of blocks with
a tenth of the training images is dealt from all over the file, and its images are shuffled together. The larger the
blocks, the more its shares of the classes differ from those of all images. Each order trains the same networks: the
same seeds, weights and recipe. We compare the validation accuracy after the last epoch. Epochs that are done are not
done again, so you can interrupt and repeat the command.

    python benchmarks/order.py --data cifar10.tgz [--out runs/order] [--blocks 21 64 341] [--seeds 3] [--save]
"""
import argparse,contextlib,io,itertools,json,statistics,time
from pathlib import Path

from keep import keep,with_save,write

from advtrain.data.block_order import BlockOrder
from advtrain.all import Checkpoint,cifar10,cutout_augs,image_dls,resnet_learner,set_seed
from advtrain.train.checkpoint import checkpoints

GROUP = .1 # of the training images
LR = .05

def use_blocks(dl, rows):
    "Let a loader shuffle its images in blocks of `rows`, or all together; the number of blocks in a group"
    dl.order = None if rows is None else BlockOrder(rows, max(1, round(GROUP*dl.n/rows)))
    return dl.order and dl.order.blocks_at_once

def classes_of(dl):
    "Count the classes in each batch of an epoch: the mean"
    labels = dl.labels().tolist()
    order = dl.get_idxs()
    return statistics.fmean(len({labels[i] for i in order[j:j+dl.bs]}) for j in range(0, dl.n, dl.bs))

def train(o, rows, seed, folder):
    "Train a network, or go on with it; what it reached"
    set_seed(seed)
    dls = image_dls(cifar10(o.data), cutout_augs(hole=8, flip=True), bs=o.bs, device='cpu', order='shuffled')
    blocks = use_blocks(dls.train, rows)
    learn = resnet_learner(dls, width=o.width, norm=o.norm, lr=LR, schedule='cosine')
    start = time.perf_counter()
    with learn.no_bar(),contextlib.redirect_stdout(io.StringIO()):
        if checkpoints(folder): learn.resume(o.epochs, folder)
        else: learn.fit(o.epochs, cbs=Checkpoint(folder))
    rows_of = learn.epoch_log.rows
    return dict(
        accuracy=[r['valid_acc'] for r in rows_of],
        train_loss=[r['train_loss'] for r in rows_of],
        seconds=time.perf_counter()-start,
        blocks_in_group=blocks,
        classes_in_batch=classes_of(dls.train),
        images=dls.train.n)

def results(o):
    "Train all that is missing; results by the rows of a block (`None`: full shuffling) and seed"
    folder = Path(o.out)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed,rows in itertools.product(range(1, o.seeds+1), [None,*o.blocks]): # in turn
        name = f"{o.norm}-width{o.width}-bs{o.bs}-epochs{o.epochs}-{rows or 'full'}-seed{seed}"
        file = folder/f'{name}.json'
        if not file.exists(): write(file, train(o, rows, seed, folder/name))
        found[rows,seed] = json.loads(file.read_text())
        print(f"{name}: {found[rows,seed]['accuracy'][-1]:.2%}", flush=True)
    return found

def summary(o, found):
    "Gather accuracies and differences from full shuffling, by the rows of a block"
    seeds = range(1, o.seeds+1)
    last = {k: v['accuracy'][-1] for k,v in found.items()}
    return [dict(
        rows=rows,
        blocks_in_group=found[rows,1]['blocks_in_group'],
        classes_in_batch=found[rows,1]['classes_in_batch'],
        accuracy=[last[rows,s] for s in seeds],
        difference=[last[rows,s]-last[None,s] for s in seeds]) for rows in [None,*o.blocks]]

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10')
    p.add_argument('--out', default='runs/order', help='folder for checkpoints and finished runs')
    p.add_argument('--blocks', type=int, nargs='+', default=[21,64,341],
        help='images in a block; by default, advtrain takes 21')
    p.add_argument('--seeds', type=int, default=3, help='number of seeds')
    p.add_argument('--epochs', type=int, default=8, help='epochs of each run')
    p.add_argument('--width', type=int, default=16, help='channels of the first stage')
    p.add_argument('--bs', type=int, default=128, help='batch size')
    p.add_argument('--norm', default='layer', help='norm of the network')
    o = with_save(p).parse_args()
    found = results(o)
    lines = summary(o, found)
    for r in lines:
        points = ', '.join(f'{100*d:+.2f}' for d in r['difference'])
        name = f"blocks of {r['rows']}" if r['rows'] else 'full shuffling'
        print(f"{name:16} {statistics.fmean(r['accuracy']):.2%} ({points} points), "
              f"{r['classes_in_batch']:.1f} classes in a batch")
    recipe = dict(width=o.width, epochs=o.epochs, bs=o.bs, norm=o.norm, lr=LR)
    keep(o.save, dict(lines=lines, group=GROUP, images=found[None,1]['images'], **recipe), 'fastai')

if __name__=='__main__': main()
