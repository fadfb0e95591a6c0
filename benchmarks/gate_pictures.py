"""Pictures that are not frontal chest radiographs, drawn by seed, to set and to test the input gate.

Each maker takes a numpy generator and gives uint8 (H, W). Radiographs are drawn as thickness maps of simple bodies
(a film is roughly one minus the exponential of minus the thickness), so they have the look of one: smooth soft
tissue, bright bone, dark air.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 192
VOXELS = 72
Maker = Callable[[np.random.Generator], np.ndarray]


def grid(height: int = SIZE, width: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x in -1..1 along the longer side, (H, W) each."""
    side = max(height, width)
    y, x = np.mgrid[:height, :width]
    return (2 * y - height) / side, (2 * x - width) / side


def capsule(
    at: tuple[np.ndarray, np.ndarray], start: tuple[float, float], end: tuple[float, float], radius: float
) -> np.ndarray:
    """Return the thickness of a round bar between two points (y, x): 2 sqrt(r^2 - d^2)."""
    (y, x), (y0, x0), (y1, x1) = at, start, end
    length = (y1 - y0) ** 2 + (x1 - x0) ** 2 + 1e-9
    along = np.clip(((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / length, 0, 1)
    distance = (y - y0 - along * (y1 - y0)) ** 2 + (x - x0 - along * (x1 - x0)) ** 2
    return 2 * np.sqrt(np.clip(radius**2 - distance, 0, None))


def ellipse(
    at: tuple[np.ndarray, np.ndarray],
    centre: tuple[float, float],
    radii: tuple[float, float],
    turn: float = 0.0,
) -> np.ndarray:
    """Return the thickness, 0..1, of an ellipsoid with these half axes (vertical, horizontal)."""
    y, x = at[0] - centre[0], at[1] - centre[1]
    up = (y * np.cos(turn) + x * np.sin(turn)) / radii[0]
    across = (x * np.cos(turn) - y * np.sin(turn)) / radii[1]
    return np.sqrt(np.clip(1 - up**2 - across**2, 0, None))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], slope: float) -> np.ndarray:
    """Return noise with a 1 / f^slope amplitude spectrum, mean 0 and deviation 1."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    frequency = np.maximum(np.hypot(fy, fx), 1 / max(shape))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency**slope
    noise = np.fft.irfft2(spectrum, shape)
    return (noise - noise.mean()) / (noise.std() + 1e-9)


def film(rng: np.random.Generator, thickness: np.ndarray, collimate: bool = True) -> np.ndarray:
    """Expose a thickness map: attenuation, blur, grain, window, and sometimes dark or bright shutters."""
    bright = 1 - np.exp(-rng.uniform(0.8, 2.5) * thickness)
    bright = bright + 0.01 * smooth_noise(rng, thickness.shape, 0.3) * rng.uniform(0.2, 1.5)
    low, high = np.percentile(bright, [rng.uniform(0, 2), rng.uniform(98, 100)])
    bright = np.clip((bright - low) / (high - low + 1e-6), 0, 1) ** rng.uniform(0.6, 1.5)
    picture = Image.fromarray((255 * bright).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    image = np.array(picture)
    if collimate and rng.random() < 0.4:
        value = int(rng.choice([0, 0, rng.integers(0, 40), 255]))
        cut = rng.integers(0, np.array(image.shape) // 5, endpoint=True)
        image[:, : cut[1]] = value
        image[:, image.shape[1] - rng.integers(0, cut[1], endpoint=True) :] = value
        image[: cut[0]] = value
    if rng.random() < 0.5:
        image = stamp(image, rng, str(rng.choice(["R", "L", "AP", "PA", "LAT"])))
    return image


def stamp(image: np.ndarray, rng: np.random.Generator, text: str) -> np.ndarray:
    """Burn a marker into a random place near the edge."""
    picture = Image.fromarray(image)
    place = (int(rng.uniform(0, 0.85) * picture.width), int(rng.choice([0.03, 0.8, 0.1]) * picture.height))
    ImageDraw.Draw(picture).text(
        place, text, fill=255, font=ImageFont.load_default(int(rng.integers(10, 24)))
    )
    return np.array(picture)


def bone(at: tuple, start: tuple[float, float], end: tuple[float, float], radius: float) -> np.ndarray:
    """Return a hollow bone with knuckles at its ends."""
    shaft = capsule(at, start, end, radius) - 0.6 * capsule(at, start, end, 0.55 * radius)
    return shaft + 0.8 * (capsule(at, start, start, 1.35 * radius) + capsule(at, end, end, 1.35 * radius))


def draw_limb(rng: np.random.Generator) -> np.ndarray:
    """Draw a leg, thigh, forearm or knee: soft tissue along one axis with one or two bones."""
    shape = (SIZE, int(SIZE * rng.uniform(0.55, 1.1))) if rng.random() < 0.8 else (int(SIZE * 0.7), SIZE)
    at = grid(*shape)
    lean, shift = rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.25)
    if shape[0] < shape[1]:
        at = (at[1], at[0])
    top, foot = (-1.3, shift - lean), (1.3, shift + lean)
    flesh = rng.uniform(0.22, 0.6)
    thickness = capsule(at, top, foot, flesh) * rng.uniform(0.4, 0.9)
    calf = (rng.uniform(-0.8, 0.8), shift)
    thickness += 0.4 * ellipse(at, calf, (rng.uniform(0.4, 0.9), flesh * 1.1)) * flesh
    joint = rng.uniform(-1.1, 1.1)
    radius = flesh * rng.uniform(0.18, 0.42)
    for side in (-1, 1) if rng.random() < 0.6 else (0,):
        gap = side * flesh * rng.uniform(0.3, 0.5)
        middle = (joint, shift + joint * lean + gap)
        for end in (top, foot):
            tip = (end[0], end[1] + gap * rng.uniform(0.5, 1))
            near = (middle[0] + np.sign(end[0]) * radius * 1.3, middle[1])
            thickness += rng.uniform(0.7, 1.6) * bone(at, near, tip, radius * (1 if side < 1 else 0.6))
    return film(rng, thickness)


def draw_hand(rng: np.random.Generator) -> np.ndarray:
    """Draw one or two hands: palm, fingers of three bones each, wrist."""
    shape = (SIZE, int(SIZE * rng.uniform(0.6, 1.2)))
    at = grid(*shape)
    thickness = np.zeros(shape)
    centres = [0.0] if shape[1] < SIZE or rng.random() < 0.7 else [-0.5, 0.5]
    scale = rng.uniform(0.75, 1.1) / len(centres) ** 0.5
    turn, tip_up = rng.uniform(-0.4, 0.4), rng.choice([-1, 1])
    for centre in centres:
        y, x = at[0] - rng.uniform(-0.1, 0.1), at[1] - centre
        place = (
            tip_up * (y * np.cos(turn) + x * np.sin(turn)) / scale,
            (x * np.cos(turn) - y * np.sin(turn)) / scale,
        )
        thickness += 0.6 * capsule(place, (0.25, 0), (0.1, 0), 0.33) + 0.5 * capsule(
            place, (0.3, 0), (1.4, 0), 0.22
        )
        thickness += 1.2 * bone(place, (0.62, -0.08), (1.5, -0.09), 0.08)
        thickness += 1.2 * bone(place, (0.62, 0.1), (1.5, 0.1), 0.06)
        for angle, length in zip(
            (-0.75, -0.28, -0.05, 0.18, 0.42), (0.75, 1.0, 1.1, 1.02, 0.85), strict=True
        ):
            angle += rng.uniform(-0.05, 0.05)
            joints = [
                (0.3 - r * length * np.cos(angle), r * length * np.sin(angle))
                for r in (0.2, 0.6, 0.8, 0.95, 1.08)
            ]
            thickness += 0.35 * capsule(place, joints[0], joints[-1], 0.085)
            for one, other in itertools.pairwise(joints):
                near = (0.9 * one[0] + 0.1 * other[0], 0.9 * one[1] + 0.1 * other[1])
                thickness += 1.1 * bone(place, near, other, 0.035)
    return film(rng, thickness)


def draw_skull(rng: np.random.Generator) -> np.ndarray:
    """Draw a head from the front or the side: a shell, face bones, jaw, neck."""
    at = grid(SIZE, int(SIZE * rng.uniform(0.75, 1.1)))
    cy, wide = rng.uniform(-0.35, -0.1), rng.uniform(0.45, 0.68)
    outer = ellipse(at, (cy, 0), (0.62, wide))
    thickness = 0.9 * outer + 1.2 * (outer - ellipse(at, (cy, 0), (0.57, wide - 0.05)))
    offset = rng.choice([0.0, rng.uniform(0.15, 0.3)])
    for side in (-1, 1):
        eye = (cy + 0.25, offset + side * 0.2 * wide * (2 if offset == 0 else 0.4))
        thickness -= 0.35 * ellipse(at, eye, (0.1, 0.12))
        thickness += 0.3 * ellipse(at, (cy + 0.65, offset + side * 0.2), (0.1, 0.12))
    thickness += 0.6 * ellipse(at, (cy + 0.6, offset), (0.3, 0.32)) - 0.3 * ellipse(
        at, (cy + 0.4, offset), (0.14, 0.07)
    )
    thickness += 0.5 * capsule(at, (cy + 0.6, -offset), (1.4, -offset), 0.3) + spine(
        at, rng, -offset, cy + 0.6, 1.2, 0.09
    )
    return film(rng, np.clip(thickness, 0, None))


def spine(
    at: tuple, rng: np.random.Generator, x: float, top: float, bottom: float, radius: float
) -> np.ndarray:
    """Return a column of vertebrae with darker discs between."""
    y = at[0]
    step = radius * rng.uniform(1.4, 2.0)
    blocks = 0.7 + 0.3 * (np.cos(2 * np.pi * y / step) > -0.5)
    inside = np.clip(1 - ((at[1] - x) / radius) ** 2, 0, None) ** 0.3
    return blocks * inside * ((y > top) & (y < bottom)) * rng.uniform(0.3, 0.8)


def draw_abdomen(rng: np.random.Generator) -> np.ndarray:
    """Draw an abdomen or pelvis: a wide body, lumbar spine, iliac wings, hips, bowel gas."""
    at = grid(SIZE, int(SIZE * rng.uniform(0.75, 1.15)))
    thickness = 1.0 * np.clip(1 - (at[1] / rng.uniform(0.75, 1.1)) ** 2, 0, None) ** 0.5
    low = rng.uniform(-0.2, 0.7)
    thickness += spine(at, rng, 0, -1.2, low + 0.2, rng.uniform(0.1, 0.17))
    for side in (-1, 1):
        wing = ellipse(at, (low, side * 0.45), (0.35, 0.3), side * 0.5)
        thickness += rng.uniform(0.25, 0.6) * (wing > 0) * (0.6 + 0.4 * wing)
        thickness -= 0.4 * ellipse(at, (low + 0.5, side * 0.18), (0.14, 0.1))
        hip = (low + 0.5, side * 0.6)
        thickness += 0.5 * ellipse(at, hip, (0.15, 0.15)) + bone(at, hip, (low + 1.5, side * 0.75), 0.1)
        thickness += 0.3 * ellipse(at, (low - 0.85, side * 0.4), (0.25, 0.12))
    for _ in range(int(rng.integers(4, 25))):
        spot = (rng.uniform(-0.9, low + 0.2), rng.uniform(-0.6, 0.6))
        thickness -= rng.uniform(0.1, 0.35) * ellipse(
            at, spot, tuple(rng.uniform(0.03, 0.16, 2)), rng.uniform(0, 3)
        )
    return film(rng, np.clip(thickness, 0, None))


def chest_body(rng: np.random.Generator, angle: float) -> np.ndarray:
    """Return densities (vertical, depth, across) of a chest made of ellipsoids, turned about the vertical."""
    axis = np.linspace(-1, 1, VOXELS, dtype=np.float32)
    z, depth, across = np.meshgrid(axis, axis, axis, indexing="ij")
    x = 1.25 * (across * np.cos(angle) - depth * np.sin(angle))
    y = 1.25 * (across * np.sin(angle) + depth * np.cos(angle))
    wide, deep, base, top = rng.uniform((0.75, 0.5, 0.3, -0.95), (0.95, 0.72, 0.75, -0.7))

    def solid(centre: tuple, radii: tuple, power: float = 2.0) -> np.ndarray:
        offsets = zip((z, y, x), centre, radii, strict=True)
        return sum(np.abs((along - middle) / radius) ** power for along, middle, radius in offsets) < 1

    taper = np.clip((z + rng.uniform(0.75, 1.0)) / 0.5, 0.25, 1) ** 0.5
    trunk = np.abs(x / (wide * taper)) ** 2.4 + np.abs(y / (deep * (0.35 + 0.65 * taper))) ** 2.4 < 1
    body = np.where(trunk | solid((-1.1, 0.05, 0), (0.5, 0.22, 0.22)), 1.0, 0.0).astype(np.float32)
    arms, breasts = rng.random(2)
    for side in (-1, 1):
        if breasts < 0.5:
            body[solid((0.25, -deep, side * 0.38), (0.3, 0.1 + 0.4 * breasts, 0.3))] = 1
        if arms < 0.5:
            body[solid((-0.95, arms - 0.4, side * (wide - 0.15)), (0.55, 0.2, 0.2))] = 1
        elif arms < 0.75:
            body[solid((0.1, 0.05, side * (wide + 0.12)), (1.2, 0.16, 0.14))] = 1
        middle, half = (top + base + 0.15) / 2, (base + 0.15 - top) / 2
        lung = solid(
            (middle, 0.03, side * 0.47 * wide), (half, 0.84 * deep, rng.uniform(0.38, 0.44) * wide), 2.6
        )
        arch = np.clip(1 - ((x - side * 0.4) / 0.5) ** 2 - ((y + 0.15) / (1.3 * deep)) ** 2, 0, 1)
        floor = base - 0.25 * np.sqrt(arch) + rng.uniform(0.1, 0.3) * np.clip(y + 0.2 * deep, 0, 1)
        body[lung & trunk & (z < floor)] = rng.uniform(0.15, 0.4)
    body[solid((base - 0.25, -0.35 * deep, -0.1), rng.uniform((0.22, 0.25, 0.26), (0.38, 0.36, 0.42)))] = 1.05
    body[solid((base - 0.75, 0.0, 0.0), (0.3, 0.2, 0.13))] = 1.02
    hardness = rng.uniform(1.2, 2.0)
    body[(np.abs(x) < 0.1) & (np.abs(y - 0.76 * deep) < 0.16) & trunk] = hardness
    body[(np.abs(x) < 0.1) & (np.abs(y + 0.9 * deep) < 0.04) & (np.abs(z + 0.15) < 0.45) & trunk] = 1.4
    wall = np.abs(np.hypot(x / (0.86 * wide), y / (0.88 * deep)) - 1) < 0.05
    rungs = np.cos(2 * np.pi * (z - 0.5 * y) / rng.uniform(0.13, 0.18)) > 0.2
    body[wall & rungs & trunk & (z < base + 0.15) & (z > top)] = rng.uniform(1, hardness)
    return body


def draw_turned(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Draw the film of a chest turned by an angle: 0 is frontal, 90 lateral."""
    thickness = chest_body(rng, np.deg2rad(degrees)).sum(axis=1) * 2 / VOXELS
    columns = np.flatnonzero(thickness.max(axis=0) > rng.uniform(0.02, 0.5))
    room = rng.integers(0, max(1, (VOXELS - len(columns)) // 2), 2, endpoint=True)
    columns = slice(max(0, columns[0] - room[0]), columns[-1] + 1 + room[1])
    tall = min(VOXELS, int(len(range(VOXELS)[columns]) / rng.uniform(0.7, 1.3)))
    top = min(int(VOXELS * rng.uniform(0, 0.2)), VOXELS - tall)
    rows = slice(top, top + tall)
    if rng.random() < 0.3:
        thickness[:, rng.choice([columns.start + 1, min(columns.stop, VOXELS) - 2])] += rng.uniform(0.05, 0.4)
    thickness = thickness[rows, columns].astype(np.float32)
    size = (3 * thickness.shape[1], 3 * thickness.shape[0])
    smooth = np.asarray(Image.fromarray(thickness).resize(size, Image.Resampling.BICUBIC))
    grain = 1 + 0.02 * smooth_noise(rng, smooth.shape, 1.2)
    image = film(rng, np.clip(smooth, 0, None) * grain * rng.uniform(0.7, 1.6))
    return vary_film(image, rng) if rng.random() < 0.5 else image


def draw_lateral(rng: np.random.Generator) -> np.ndarray:
    """Draw a chest from either side."""
    return draw_turned(rng, rng.choice([-1, 1]) * rng.uniform(70, 110))


def draw_slice(rng: np.random.Generator) -> np.ndarray:
    """Draw a CT slice, across or from front to back, of a chest or of a body with other organs."""
    body = chest_body(rng, 0.0)
    cut = int(VOXELS * rng.uniform(0.25, 0.75))
    value = body[cut] if rng.random() < 0.7 else body[:, :, cut]
    if rng.random() < 0.4:
        at = grid(VOXELS, VOXELS)
        for _ in range(int(rng.integers(3, 12))):
            organ = ellipse(at, tuple(rng.uniform(-0.4, 0.4, 2)), tuple(rng.uniform(0.06, 0.35, 2))) > 0
            value = np.where(organ & (value > 0), rng.uniform(0.1, 1.5), value)
    value = value + rng.uniform(0.005, 0.06) * rng.standard_normal(value.shape)
    value = value * (1 + rng.uniform(0, 0.4) * smooth_noise(rng, value.shape, rng.uniform(0.3, 1.2)))
    window = np.clip((value - rng.choice([0.0, 0.6, 0.8])) / rng.uniform(0.3, 1.5), 0, 1)
    return np.array(
        Image.fromarray((255 * window).astype(np.uint8)).resize((240, 240), Image.Resampling.BICUBIC)
    )


def draw_document(rng: np.random.Generator) -> np.ndarray:
    """Draw a page of text, a form, or a screenshot with panes."""
    dark = rng.random() < 0.3
    paper, ink = (
        (int(rng.integers(0, 60)), int(rng.integers(180, 256))) if dark else (int(rng.integers(200, 256)), 20)
    )
    width = int(256 * rng.uniform(0.65, 1.4))
    picture = Image.new("L", (width, 256), paper)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 5))):
        corner = (int(rng.integers(0, width)), int(rng.integers(0, 200)))
        size = (int(rng.integers(20, 160)), int(rng.integers(5, 120)))
        box = (*corner, corner[0] + size[0], corner[1] + size[1])
        draw.rectangle(box, fill=int(rng.integers(0, 256)), outline=ink)
    step, y = int(rng.integers(8, 22)), int(rng.integers(2, 40))
    font = ImageFont.load_default(max(6, int(step * 0.8)))
    left, right = rng.uniform(0.02, 0.2) * width, rng.uniform(0.6, 1.0) * width
    while y < 250 - step:
        x = left
        while x < right * rng.uniform(0.7, 1) and rng.random() < 0.93:
            word = "".join(rng.choice(list("etaoinshrdluETAON0123456789"), int(rng.integers(2, 10))))
            draw.text((x, y), word, fill=ink, font=font)
            x += draw.textlength(word, font=font) + step * 0.4
        y += step + (step if rng.random() < 0.1 else 0)
    return np.array(picture)


def draw_texture(rng: np.random.Generator) -> np.ndarray:
    """Draw noise of any smoothness, gratings, gradients, and sums of them."""
    shape = (SIZE, int(SIZE * rng.uniform(0.6, 1.5)))
    y, x = grid(*shape)
    value = rng.choice([0, 1]) * smooth_noise(rng, shape, rng.uniform(0, 2.2))
    if rng.random() < 0.5:
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(2, 40)
        wave = np.sin(pitch * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(-0.6, 0.6) * value)
        value = value * rng.uniform(0, 1) + wave * rng.uniform(0.3, 1)
    if rng.random() < 0.5 or value.std() == 0:
        value = value + rng.uniform(-2, 2) * x + rng.uniform(-2, 2) * y + rng.uniform(-1, 1) * np.hypot(x, y)
    low, high = np.percentile(value, [1, 99])
    return (255 * np.clip((value - low) / (high - low + 1e-9), 0, 1)).astype(np.uint8)


def draw_scene(rng: np.random.Generator) -> np.ndarray:
    """Draw a collage of shaded shapes over a sky and a ground, with the spectrum of a photograph."""
    shape = (SIZE, int(SIZE * rng.uniform(0.65, 1.5)))
    at = grid(*shape)
    ground = rng.uniform(-0.5, 0.7) + 0.1 * smooth_noise(rng, shape, 2.0)[:1]
    value = np.where(at[0] > ground, rng.uniform(0, 1), rng.uniform(0, 1) + rng.uniform(-0.3, 0.3) * at[0])
    for _ in range(int(rng.integers(2, 40))):
        size = np.exp(rng.uniform(-3.5, -0.5, 2))
        form = ellipse(at, tuple(rng.uniform(-1, 1, 2)), tuple(size), rng.uniform(0, 3))
        if rng.random() < 0.4:
            corner = rng.uniform(-1, 0.8, 2)
            form = ((np.abs(at[0] - corner[0]) < size[0]) & (np.abs(at[1] - corner[1]) < size[1])).astype(
                float
            )
        value = np.where(form > 0, rng.uniform(0, 1) + rng.uniform(0, 0.4) * form, value)
    value = value + rng.uniform(0, 0.25) * smooth_noise(rng, shape, rng.uniform(0.8, 1.6))
    low, high = np.percentile(value, [0.5, 99.5])
    picture = Image.fromarray((255 * np.clip((value - low) / (high - low), 0, 1)).astype(np.uint8))
    return np.array(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5))))


def invert(image: np.ndarray) -> np.ndarray:
    """Swap bright and dark."""
    return 255 - image


def turn_left(image: np.ndarray) -> np.ndarray:
    """Rotate by 90 degrees anticlockwise."""
    return np.rot90(image, 1)


def turn_right(image: np.ndarray) -> np.ndarray:
    """Rotate by 90 degrees clockwise."""
    return np.rot90(image, -1)


def turn_over(image: np.ndarray) -> np.ndarray:
    """Rotate by 180 degrees."""
    return np.rot90(image, 2)


MISHANDLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": invert,
    "turned_left": turn_left,
    "turned_right": turn_right,
    "upside_down": turn_over,
}
"""What can be wrong with a frontal chest radiograph itself."""

DRAWN: dict[str, Maker] = {
    "limb": draw_limb,
    "hand": draw_hand,
    "skull": draw_skull,
    "abdomen": draw_abdomen,
    "lateral": draw_lateral,
    "slice": draw_slice,
    "document": draw_document,
    "texture": draw_texture,
    "scene": draw_scene,
}


def vary_film(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change a film as other hospitals would: framing, lean, exposure, sharpness, borders, mirror, marker."""
    picture = Image.fromarray(image)
    if rng.random() < 0.6:
        picture = picture.rotate(
            rng.uniform(-9, 9), Image.Resampling.BILINEAR, expand=bool(rng.random() < 0.3)
        )
    width, height = picture.size
    left, top, right, bottom = rng.uniform(0, 0.12, 4) * (width, height, width, height)
    picture = picture.crop((int(left), int(top), int(width - right), int(height - bottom)))
    small = int(rng.uniform(56, 256))
    if rng.random() < 0.5:
        picture = picture.resize((small, max(48, int(small * picture.height / picture.width))))
    levels = np.asarray(picture, dtype=np.float32) / 255
    if rng.random() < 0.5:
        levels = levels[:, ::-1]
    levels = rng.uniform(0.55, 1) * levels ** rng.uniform(0.6, 1.7) + rng.uniform(0, 0.3)
    levels = levels + rng.uniform(0, 0.03) * rng.standard_normal(levels.shape)
    image = (255 * np.clip(levels, 0, 1)).astype(np.uint8)
    if rng.random() < 0.3:
        edges = tuple(tuple(int(e) for e in rng.integers(0, 20, 2)) for _ in range(2))
        image = np.pad(image, edges, constant_values=int(rng.choice([0, 0, 0, 255])))
    return stamp(image, rng, str(rng.choice(["R", "L", "AP"]))) if rng.random() < 0.3 else image
