"""Writes golden.json: what ir-measures 0.4.3 (pytrec-eval-terrier 0.5.11) says of the runs beside this file, query by query.

    python3 -m venv v && v/bin/pip install ir-measures==0.4.3 pytrec-eval-terrier==0.5.11
    v/bin/python golden.py ../../../shared/data > golden.json

The runs med and cranfield (its first queries) are real ones, of lexical search through the HTTP API; their judgements stay in
the data folder. drawn.qrels.tsv has judgements drawn by lot for the run med, so that a real run is measured without that folder
too (draw.py made it). The run edge holds ties, scores that differ beyond 32 bits, grades, negative grades, missing and unjudged
queries.
"""
import gzip, json, sys
import ir_measures
from ir_measures import nDCG, R, RR

names = {str(nDCG @ 10): "ndcg@10", str(RR @ 10): "mrr@10", str(R @ 5): "recall@5", str(R @ 10): "recall@10", str(R @ 100): "recall@100"}

def qrels(path):
    rows = [line.rstrip("\n").split("\t") for line in open(path)][1:]
    return [ir_measures.Qrel(q, d, int(s)) for q, d, s in rows]

def run(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as f:
        return list(ir_measures.read_trec_run(f.read()))

out = {}
for name, path, judged in [("edge", "edge.run", "edge.qrels.tsv"), ("drawn", "med.run.gz", "drawn.qrels.tsv")] + [(c, c + ".run.gz", f"{sys.argv[1]}/{c}/qrels/test.tsv") for c in ("cranfield", "med")]:
    ranking, judgements = run(path), qrels(judged)
    if name == "cranfield":
        asked = {r.query_id for r in ranking}
        judgements = [q for q in judgements if q.query_id in asked]
    out[name] = {}
    for m in ir_measures.iter_calc([nDCG @ 10, RR @ 10, R @ 5, R @ 10, R @ 100], judgements, ranking):
        out[name].setdefault(m.query_id, {})[names[str(m.measure)]] = m.value
print(json.dumps(out, indent=1, sort_keys=True))
