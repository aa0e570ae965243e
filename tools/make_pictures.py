#!/usr/bin/env python3
"""Make the guide's pictures and the README's animation, from runs on the embedded sample and real pages in Chromium.

    python tools/make_pictures.py [--runs FOLDER]     # runs that are there already are used again

It takes some minutes. Chromium is `/usr/bin/chromium`, or what `ADVTRAIN_CHROMIUM` names.
"""
import argparse,html,io,os,shutil,subprocess,sys,tempfile
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd
from PIL import Image
from playwright.sync_api import sync_playwright

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from advtrain.all import (EXPERIMENTS,compare_runs,fashion_sample,grid,image_dls,plot_history,run_many,shift_gray_augs,
    show_transforms,write_comparison)

ROOT = Path(__file__).parents[1]
PICTURES = ROOT/'nbs/images'
CHROMIUM = os.environ.get('ADVTRAIN_CHROMIUM', '/usr/bin/chromium')

def save(picture, name):
    "Save a picture of at most 256 colours, and print its size"
    few = picture.convert('RGB').quantize(256, kmeans=2, dither=Image.Dither.NONE)
    few.save(PICTURES/name, optimize=True)
    print(f'{name}: {few.width}x{few.height}, {(PICTURES/name).stat().st_size/1000:.0f} kB')

def save_figure(fig, name, dpi=90):
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=dpi, bbox_inches='tight', facecolor='white')
    save(Image.open(buffer), name)

def screenshot(page, **options): return Image.open(io.BytesIO(page.screenshot(**options)))

@contextmanager
def opened_browser():
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox','--disable-gpu'])
        yield browser
        browser.close()

def open_page(browser, file, width=1000, height=640):
    page = browser.new_page(viewport=dict(width=width, height=height))
    page.goto(file.resolve().as_uri())
    return page

# Runs

def make_runs(folder):
    "Two norms with three seeds each, on the sample"
    base = EXPERIMENTS['quickstart']
    return run_many(grid(base, norm=['layer','batch'], seed=[1,2,3]), fashion_sample(), folder/'norms')

def shell(folder, *args):
    "The output of a shell command, run in `folder`"
    command = [sys.executable,'-W','ignore','-m','advtrain.cli.run',*args]
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    said = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
    return said.replace(f'{folder}/', '')

# Figures

def draw_gpus():
    "The efficiency that the model of `benchmarks/scaling.py` computes, with the guide's constants"
    sys.path.insert(0, str(ROOT/'benchmarks'))
    import scaling
    constants = dict(draws=.48, loader=5, compute=12, fixed=4, link=450)
    fig,ax = plt.subplots(figsize=(6,3))
    ns = [1,2,4,8,16]
    for bs in (128,1024,4096):
        one = scaling.model(constants, 1, bs)
        ax.plot(ns, [100*one/scaling.model(constants, n, bs)/n for n in ns], marker='o', label=f'batches of {bs:,}')
    ax.set(xscale='log', xticks=ns, xticklabels=ns, ylim=(0,105), xlabel='GPUs, NVLink', ylabel='efficiency, %',
        title='Computed, not measured')
    ax.minorticks_off()
    ax.legend(frameon=False)
    return fig

def draw_figures(run):
    "Figures that functions of advtrain make"
    interp = run.interpretation
    wrong = interp.misclassified(2)
    save_figure(interp.plot_gradcam(wrong, against='actual'), 'guide_look.png')
    dls = image_dls(fashion_sample(), shift_gray_augs(size=28), size=28, bs=32)
    save_figure(show_transforms(dls, n=6), 'guide_change.png', dpi=70)
    history = pd.read_csv(ROOT/'benchmarks/results/runs/layernorm-40-ws/history.csv')
    save_figure(plot_history(history), 'guide_long.png')
    save_figure(draw_gpus(), 'guide_gpus.png')

# Pages

def take_pages(browser, runs, folder):
    "The top of a run's page, a comparison and a folder of runs"
    save(screenshot(open_page(browser, runs[0].folder/'report.html')), 'guide_first_run.png')
    comparison = folder/'comparison.html'
    write_comparison(compare_runs([runs[0],runs[3]]), comparison)
    page = open_page(browser, comparison, width=1100, height=1000)
    page.wait_for_selector('#cards li')
    page.locator('h2', has_text='Differences').evaluate('o => o.scrollIntoView()')
    page.wait_for_timeout(1000)
    save(screenshot(page), 'guide_compare.png')
    save(screenshot(open_page(browser, folder/'norms/index.html', height=760)), 'guide_many.png')

TERMINAL = '''<body style="margin:0"><pre style="margin:0; padding:16px; background:#1e1e1e; color:#ddd;
width:max-content; font:13px/1.5 monospace">{}</pre>'''

def take_terminal(browser, commands, folder):
    "Commands and what they print, as in a terminal"
    text = '\n'.join(f'<b>$ {html.escape(command)}</b>\n{html.escape(said)}' for command,said in commands)
    file = folder/'terminal.html'
    file.write_text('<meta charset="utf-8">'+TERMINAL.format(text), encoding='utf-8')
    page = open_page(browser, file)
    save(Image.open(io.BytesIO(page.locator('pre').screenshot())), 'guide_shell.png')

def take_export(folder, run):
    "What `advtrain_predict` leaves for two images"
    images = list(run.interpretation.misclassified(2).path)
    out = folder/'heat_maps'
    command = [sys.executable,'-W','ignore','-c','from advtrain.cli.shell import advtrain_predict; advtrain_predict()',
        str(run.folder),*map(str, images),'--out',str(out)]
    subprocess.run(command, env=os.environ | dict(PYTHONPATH=str(ROOT)), check=True, capture_output=True)
    pictures = [Image.open(o).convert('RGB') for o in sorted(out.glob('*.png'))]
    width = max(o.width for o in pictures)
    sheet = Image.new('RGB', (width, sum(o.height for o in pictures)), 'white')
    top = 0
    for o in pictures:
        sheet.paste(o, (0, top))
        top += o.height
    save(sheet, 'guide_export.png')

# The animation

def frames(page):
    "Pictures and their milliseconds: a click on the most frequent confusion, then the slider"
    page.wait_for_selector('#cards li')
    cells = page.locator('#confusion button:not(.right)')
    worst = max(range(cells.count()), key=lambda i: int(cells.nth(i).text_content()))
    cell = cells.nth(worst)
    page.locator('#confusion').evaluate('o => o.scrollIntoView()')
    page.wait_for_timeout(1000)
    yield screenshot(page),1500
    box = cell.bounding_box()
    page.evaluate('''([x, y]) => {
        const dot = document.createElement('div');
        dot.style = `position:fixed; left:${x-11}px; top:${y-11}px; width:22px; height:22px; border-radius:50%;
            border:3px solid #d40; box-sizing:border-box; z-index:9`;
        document.body.append(dot);
        setTimeout(() => dot.remove(), 500);
    }''', [box['x']+box['width']/2, box['y']+box['height']/2])
    yield screenshot(page),700
    cell.click()
    page.wait_for_timeout(900)
    page.locator('#gallery-title').evaluate('o => o.scrollIntoView()')
    page.wait_for_timeout(300)
    slider = page.locator('input[name=blend]')
    for blend in (50,25,0,0,25,50,75,100,100,75,50):
        slider.evaluate('(o, v) => { o.value = v; o.dispatchEvent(new Event("input", {bubbles: true})); }', blend)
        page.wait_for_timeout(150)
        yield screenshot(page),900 if blend in (0,100) else 350

def animate(browser, run, name='report.gif'):
    page = open_page(browser, run.folder/'report.html', width=960, height=600)
    pictures,times = zip(*frames(page))
    palette = pictures[-1].convert('RGB').quantize(128, kmeans=2)
    few = [o.convert('RGB').quantize(palette=palette, dither=Image.Dither.NONE) for o in pictures]
    few[0].save(PICTURES/name, save_all=True, append_images=few[1:], duration=list(times), loop=0, optimize=True)
    print(f'{name}: {(PICTURES/name).stat().st_size/1000:.0f} kB, {len(few)} frames')

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--runs', type=Path, help='folder for the runs; default: a temporary one')
    folder = p.parse_args().runs or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True, parents=True)
    runs = list(make_runs(folder))
    draw_figures(runs[0])
    take_export(folder, runs[0])
    shutil.rmtree(folder/'runs', ignore_errors=True) # of an earlier call
    said = shell(folder, 'quickstart', '--epochs', '3')
    with opened_browser() as browser:
        take_pages(browser, runs, folder)
        take_terminal(browser, [('advtrain_run quickstart --epochs 3', said)], folder)
        animate(browser, runs[0])

if __name__=='__main__': main()
