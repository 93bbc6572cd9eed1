"""What the benchmarks of single operations ask of `--device`."""

from base.options import Parser


def require(parser: Parser, device: str) -> None:
    """Ends the program with one line if there is no such device: "cpu" or "cuda"."""
    if device == "cuda":
        import torch  # which takes seconds

        if not torch.cuda.is_available():
            parser.error("--device cuda: PyTorch finds no GPU here")
