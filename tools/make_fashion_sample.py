#!/usr/bin/env python3
"""Make `advtrain/data/fashion_sample.tar.xz` from the Debian package `dataset-fashion-mnist` (MIT licence).

Takes the first 200 training and 50 test images of each class, centres each in a black 32x32 square, and
packs them as RGB PNGs. The PNGs are stored uncompressed, so xz finds what the three equal channels and the
black borders have in common: 1.1 MB instead of 2.5. The same input gives the same bytes: members are sorted,
and no owner or time is stored.

    apt-get install dataset-fashion-mnist && python tools/make_fashion_sample.py
"""
import argparse,gzip,io,lzma,tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ['T-shirt','Trouser','Pullover','Dress','Coat','Sandal','Shirt','Sneaker','Bag','Ankle boot']
LICENCE = """Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist
A sample: images padded from 28x28 to 32x32 pixels and stored as RGB.

The MIT License (MIT) Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction, including
without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO
EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER
IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR
THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

def read_idx(path, header):
    "Read an IDX file after its header of `header` bytes"
    with gzip.open(path) as f: return np.frombuffer(f.read()[header:], np.uint8)

def png(image):
    "Convert a 28x28 array to the bytes of an uncompressed 32x32 RGB PNG"
    buffer = io.BytesIO()
    Image.fromarray(np.pad(image, 2)).convert('RGB').save(buffer, 'PNG', compress_level=0)
    return buffer.getvalue()

def members(source):
    "Yield the name and the bytes of each member of the archive"
    yield 'fashion_sample/LICENSE', LICENCE.encode()
    for split,prefix,n in (('train','train',200),('test','t10k',50)):
        images = read_idx(source/f'{prefix}-images-idx3-ubyte.gz', 16).reshape(-1, 28, 28)
        labels = read_idx(source/f'{prefix}-labels-idx1-ubyte.gz', 8)
        for c,name in enumerate(CLASSES):
            for i in np.flatnonzero(labels==c)[:n]: yield f'fashion_sample/{split}/{name}/{i:05d}.png', png(images[i])

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--source', type=Path, default='/usr/share/datasets/fashion-mnist',
        help='folder of the IDX files')
    parser.add_argument('--out', type=Path, default=Path(__file__).parents[1]/'advtrain/data/fashion_sample.tar.xz',
        help='archive to write')
    args = parser.parse_args()
    with lzma.open(args.out, 'wb') as f, tarfile.open(fileobj=f, mode='w') as tar:
        for name,data in sorted(members(args.source)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    print(f'{args.out}: {args.out.stat().st_size:,} bytes')

if __name__ == '__main__': main()
