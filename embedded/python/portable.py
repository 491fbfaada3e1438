# Serves a model with llama.cpp's server as packaged in xllamacpp, after start.py.
import xllamacpp as x

p = x.CommonParams()
p.model.path = cfg["model"]
p.hostnames = ["127.0.0.1"]
p.port = cfg["port"]
p.n_ctx = cfg["context"]
p.n_parallel = cfg["parallel"]
p.cpuparams.n_threads = cfg["threads"]
p.cpuparams_batch.n_threads = cfg["threads"]
p.ui = False
p.warmup = False
p.cache_ram_mib = 0
if cfg["kind"] == "chat":
    p.use_jinja = True
else:
    p.embedding = True
    p.n_batch = cfg["batch"]
    p.n_ubatch = cfg["batch"]
    p.pooling_type = getattr(x.llama_pooling_type, "LLAMA_POOLING_TYPE_" + cfg["pooling"].upper())
server = x.Server(p)
print("listening at", server.listening_address, flush=True)
threading.Event().wait()
