#!/usr/bin/env python3
"""Make `README.md` from `nbs/index.ipynb` as it was last executed: text, code, results and pictures."""
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]

def plain(output):
    "Turn an output into text or a picture; None for printed lines, styles and empty progress bars"
    if output.output_type=='stream': return None # the lines of six epochs
    data = output.data
    text = '\n'.join(re.findall('<p>(.*?)</p>', data.get('text/markdown', ''))) or data.get('text/plain', '')
    if 'image/png' in data: keep = {'image/png': data['image/png']}
    elif text.startswith('<') or not text.strip(): return None
    else: keep = {'text/plain': text}
    return nbformat.v4.new_output('display_data', keep)

ALT = ('Six misclassified images with heat maps at four layers',) # of the pictures that code makes, in their order

def main():
    nb = nbformat.read(ROOT/'nbs/index.ipynb', 4)
    nb.metadata.language_info = {'name': 'python'}
    for cell in nb.cells:
        if cell.cell_type=='code': cell.outputs = [o for o in map(plain, cell.outputs) if o]
    text,resources = MarkdownExporter().from_notebook_node(
        nb, {'output_files_dir': 'nbs/images', 'unique_key': 'index'})
    for old in (ROOT/'nbs/images').glob('index_*.png'): old.unlink()
    for name,data in resources['outputs'].items():
        (ROOT/name).parent.mkdir(exist_ok=True)
        (ROOT/name).write_bytes(data)
    for alt in ALT: text = text.replace('![png]', f'![{alt}]', 1)
    if '![png]' in text: raise SystemExit('there are more pictures than descriptions in ALT')
    # links of the notebook, as seen from the root
    text = re.sub(r'\]\((images|tutorials|docs|data)', r'](nbs/\1', text).replace('](../', '](')
    (ROOT/'README.md').write_text(re.sub(r'\n{3,}', '\n\n', text).strip()+'\n', encoding='utf-8')

if __name__=='__main__': main()
