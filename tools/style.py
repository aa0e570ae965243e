"""Measure how the code reads: lines, assignments, lambdas, functions, modules. Exits with 1 above a limit.

    python tools/style.py [FOLDER] [--where]     # --where lists every counted place
"""
import argparse,ast,sys
from pathlib import Path
from statistics import median,quantiles

LIMITS = { # measure -> highest allowed value
    'lines above 120 columns, %': 1,
    'tuple-to-tuple assignments, %': 6,
    'results passed back by a walrus': 0,
    'lambdas above 80 characters': 0,
    'function length, median': 6,
    'function length, 90th percentile': 13,
    'function length, longest': 40,
    'module length, longest': 450,
}

def is_written(file):
    "Did someone write it, in a notebook or by hand?"
    return file.name not in ('_modidx.py','all.py')

def body(source):
    "Count the lines of a module that nbdev exported, without docstring, `__all__` and imports"
    return source.split('\n# %% ', 2)[-1].count('\n')

def is_code(line): return bool(line.strip()) and not line.lstrip().startswith('#')

def is_tuple_to_tuple(node):
    "Is it `a,b = c,d`?"
    if not isinstance(node, ast.Assign): return False
    return isinstance(node.value, ast.Tuple) and any(isinstance(o, ast.Tuple) for o in node.targets)

def passed_back(node):
    "Find walruses in the arguments of a call: the call fills an object that is used afterwards"
    if not isinstance(node, ast.Call): return []
    return [o for o in [*node.args, *(k.value for k in node.keywords)] if isinstance(o, ast.NamedExpr)]

def length(function):
    "Count the lines of a function's body, without its docstring"
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    statements = function.body[has_docstring:]
    return function.end_lineno-statements[0].lineno+1 if statements else 0

class Measured:
    "Count measures in some modules, and note where"
    def __init__(self, files):
        self.code,self.assignments = 0,0
        self.lengths,self.modules,self.places = {},{},{k: [] for k in LIMITS}
        for file in files: self.read(file)

    def note(self, what, file, line): self.places[what].append(f'{file}:{line}')

    def read(self, file):
        source = file.read_text(encoding='utf-8')
        self.modules[str(file)] = body(source)
        for i,line in enumerate(source.splitlines(), 1):
            if not is_code(line): continue
            self.code += 1
            if len(line)>120: self.note('lines above 120 columns, %', file, i)
        for node in ast.walk(ast.parse(source)): self.look(node, file, source)

    def look(self, node, file, source):
        "Count one node of a module"
        self.assignments += isinstance(node, ast.Assign)
        if is_tuple_to_tuple(node): self.note('tuple-to-tuple assignments, %', file, node.lineno)
        for o in passed_back(node): self.note('results passed back by a walrus', file, o.lineno)
        if isinstance(node, ast.FunctionDef): self.lengths[f'{file}:{node.lineno}'] = length(node)
        if isinstance(node, ast.Lambda) and len(ast.get_source_segment(source, node))>80:
            self.note('lambdas above 80 characters', file, node.lineno)

    def numbers(self):
        "Compute the measures, by the names of their limits"
        lengths = list(self.lengths.values())
        counts = {k: len(v) for k,v in self.places.items()}
        return counts | {
            'lines above 120 columns, %': 100*counts['lines above 120 columns, %']/self.code,
            'tuple-to-tuple assignments, %': 100*counts['tuple-to-tuple assignments, %']/self.assignments,
            'function length, median': median(lengths),
            'function length, 90th percentile': quantiles(lengths, n=10)[-1],
            'function length, longest': max(lengths),
            'module length, longest': max(self.modules.values()),
        }

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('folder', nargs='?', type=Path, default=Path('advtrain'), help='folder of modules, or one module')
    p.add_argument('--where', action='store_true', help='list the places')
    o = p.parse_args()
    files = sorted(o.folder.rglob('*.py')) if o.folder.is_dir() else [o.folder]
    measured = Measured(filter(is_written, files))
    numbers = measured.numbers()
    print(f'{measured.code} lines of code in {len(measured.modules)} modules')
    for k,v in numbers.items(): print(f"{'  ' if v<=LIMITS[k] else '! '}{k:34} {v:6.1f}   limit {LIMITS[k]}")
    if o.where:
        long = [f'{k} ({v} lines)' for k,v in measured.lengths.items() if v>LIMITS['function length, longest']]
        for k,places in [*measured.places.items(), ('function length, longest', long)]:
            if places: print(f'{k}:', *places, sep='\n  ')
    sys.exit(any(v>LIMITS[k] for k,v in numbers.items()))

if __name__=='__main__': main()
