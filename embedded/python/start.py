# Begins every engine script of ours. One argument: a JSON object of settings, cfg. Ends when its standard input is closed, so
# that it never outlives the program that started it.
import json, os, sys, threading

cfg = json.loads(sys.argv[1])
sys.path.insert(0, cfg["packages"])


def end_with_parent():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()
