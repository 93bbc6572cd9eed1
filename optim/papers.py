"""The papers' formulas in float64, for tests: written from the papers, apart from `optim`'s rules.

Each takes and returns `(weights, state)`, the state starting as {}; `t` counts from 1.
"""

import math
from typing import Any

import numpy as np

State = dict[str, Any]


def adamw(
    w: np.ndarray, g: np.ndarray, state: State, t: int, lr: float, wd: float, p: dict[str, Any]
) -> tuple[np.ndarray, State]:
    """Loshchilov and Hutter, Algorithm 2, with eta_t * alpha = lr and decay lr * wd."""
    b1, b2 = p["beta1"], p["beta2"]
    m = b1 * state.get("m", 0.0) + (1.0 - b1) * g
    v = b2 * state.get("v", 0.0) + (1.0 - b2) * np.square(g)
    m_hat = m / (1.0 - b1**t)
    v_hat = v / (1.0 - b2**t)
    return w - lr * m_hat / (np.sqrt(v_hat) + p["epsilon"]) - lr * wd * w, {"m": m, "v": v}


def lion(
    w: np.ndarray, g: np.ndarray, state: State, t: int, lr: float, wd: float, p: dict[str, Any]
) -> tuple[np.ndarray, State]:
    """Chen et al., Algorithm 2."""
    m = state.get("m", np.zeros_like(w))
    c = p["beta1"] * m + (1 - p["beta1"]) * g
    w = w - lr * (np.sign(c) + wd * w)
    return w, {"m": p["beta2"] * m + (1 - p["beta2"]) * g}


def adan(
    w: np.ndarray, g: np.ndarray, state: State, t: int, lr: float, wd: float, p: dict[str, Any]
) -> tuple[np.ndarray, State]:
    """Xie et al., Algorithm 1, in the paper's betas, and its authors' bias corrections."""
    paper1, paper2, paper3 = 1 - p["beta1"], 1 - p["beta2"], 1 - p["beta3"]
    last = state.get("g", g)
    m = (1 - paper1) * state.get("m", 0.0) + paper1 * g
    v = (1 - paper2) * state.get("v", 0.0) + paper2 * (g - last)
    n = (1 - paper3) * state.get("n", 0.0) + paper3 * (g + (1 - paper2) * (g - last)) ** 2
    m_hat = m / (1 - (1 - paper1) ** t)
    v_hat = v / (1 - (1 - paper2) ** t)
    n_hat = n / (1 - (1 - paper3) ** t)
    eta = lr / (np.sqrt(n_hat) + p["epsilon"])
    if p["decay"] == "proximal":
        w = (w - eta * (m_hat + (1 - paper2) * v_hat)) / (1 + wd * lr)
    else:
        w = (1 - wd * lr) * w - eta * (m_hat + (1 - paper2) * v_hat)
    return w, {"m": m, "v": v, "n": n, "g": g}


def adabelief(
    w: np.ndarray, g: np.ndarray, state: State, t: int, lr: float, wd: float, p: dict[str, Any]
) -> tuple[np.ndarray, State]:
    """Zhuang et al., Algorithm 2; rectified as in Liu et al., Algorithm 2."""
    b1, b2, eps = p["beta1"], p["beta2"], p["epsilon"]
    m = b1 * state.get("m", 0.0) + (1 - b1) * g
    s = b2 * state.get("s", 0.0) + (1 - b2) * (g - m) ** 2 + eps
    m_hat, s_hat = m / (1 - b1**t), s / (1 - b2**t)
    step = m_hat / (np.sqrt(s_hat) + eps)
    if p["rectify"]:
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho > 5:
            above = (rho - 4) * (rho - 2) * rho_inf
            step = math.sqrt(above / ((rho_inf - 4) * (rho_inf - 2) * rho)) * step
        else:
            step = m_hat
    return w - lr * step - lr * wd * w, {"m": m, "s": s}


def sophia(
    w: np.ndarray,
    g: np.ndarray,
    state: State,
    t: int,
    lr: float,
    wd: float,
    p: dict[str, Any],
    h_hat: np.ndarray | None = None,
) -> tuple[np.ndarray, State]:
    """Liu et al., Algorithm 3; `h_hat` is given in the steps that estimate."""
    m = p["beta1"] * state.get("m", 0.0) + (1 - p["beta1"]) * g
    h = state.get("h", np.zeros_like(w))
    if h_hat is not None:
        h = p["beta2"] * h + (1 - p["beta2"]) * h_hat
    w = w - lr * wd * w
    ratio = m / np.maximum(p["gamma"] * h, p["epsilon"])
    return w - lr * np.maximum(np.minimum(ratio, 1.0), -1.0), {"m": m, "h": h}
