"""The command line of the client.

./bazelw run //serving:client -- infer --model digits --input images.npy
./bazelw run //serving:client -- load --model digits --rate 200 --duration-s 30
"""

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted")

from serving.client.commands.app import make_app

if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        make_app()(prog_name="//serving:client")
