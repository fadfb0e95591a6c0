"""What each route answers when all is well, and that it is what the engine alone would have answered."""

from __future__ import annotations

import io
import json

import numpy as np
import pydicom
import pytest
from PIL import Image

from serve.serving import Running, as_url, film, from_url, in_background, multipart, png, until
from unixcxr.labels import label_report
from unixcxr.phantom import sample_phantom
from unixcxr.sampling.engine import Engine

HOT = {"temperature": 1.0, "max_new_tokens": 30}


def test_house_routes(running: Running) -> None:
    client = running.client
    assert client.get("/healthz").body == b"ok\n"
    assert client.get("/readyz").status == 200
    info = client.get("/v1/info").json
    assert (info["model"], info["report_prompt"], info["num_steps"]) == ("tiny", "Read the film.", 3)
    assert info["needs_token"] is False
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'unixcxr_requests_total{method="GET",route="/readyz",status="200"}' in metrics.body.decode()
    assert "unixcxr_model_ready 1.0" in metrics.body.decode()


def test_a_report_is_the_engines(running: Running, engine: Engine) -> None:
    answer = running.client.upload("/v1/report", png(film(1)), force=True, seed=3, **HOT)
    assert answer.status == 200, answer.body
    report, wanted = answer.json, engine.write_report(film(1), seeds=[3], **HOT)
    assert report["token_ids"] == list(wanted.token_ids)
    assert report["text"] == wanted.text
    assert report["prompt"] == "Read the film."
    assert report["seed"] == 3
    assert report["settings"]["temperature"] == 1.0
    assert report["gate"]["accepted"] is False
    assert report["seconds"] > 0
    for sentence in report["sentences"]:
        assert report["text"][sentence["start"] : sentence["end"]] == sentence["text"]


def test_a_streamed_report_is_its_pieces(running: Running, engine: Engine) -> None:
    answer = running.client.upload("/v1/report", png(film(2)), force=True, seed=4, stream=True, **HOT)
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [name for name, _ in answer.events]
    assert names[:2] == ["queued", "started"]
    assert names[-1] == "report"
    assert set(names[2:-1]) == {"text"}
    text = "".join(data["delta"] for name, data in answer.events if name == "text")
    assert text == answer.events[-1][1]["text"] == engine.write_report(film(2), seeds=[4], **HOT).text


def test_dicom_is_read(running: Running, engine: Engine) -> None:
    picture = engine.draw_image("Mass", seed=1)
    answer = running.client.upload("/v1/report", picture.to_bytes("dicom"), "x.dcm", force=True)
    assert answer.json["token_ids"] == list(engine.write_report(picture.image).token_ids)
    check = running.client.upload("/v1/check", picture.to_bytes("dicom"), include_image=True).json
    assert check["is_dicom"] is True
    with Image.open(io.BytesIO(from_url(check["image"]))) as shown:
        assert np.array_equal(np.asarray(shown), np.asarray(picture.image))


def test_a_phantom_passes_the_gate_and_noise_does_not(running: Running) -> None:
    phantom = sample_phantom(7, size_px=256).image
    assert running.client.upload("/v1/check", png(phantom)).json["gate"]["accepted"] is True
    refused = running.client.upload("/v1/report", png(film(0)))
    assert (refused.status, refused.code) == (422, "gate_refused")
    assert "force" in refused.json["error"]["message"]
    assert running.client.upload("/v1/report", png(phantom)).status == 200


def test_a_check_shrinks_what_it_shows(running: Running) -> None:
    image = np.tile(np.arange(200, dtype=np.uint8), (2000, 2))
    check = running.client.upload("/v1/check", png(image), include_image=True).json
    assert (check["height"], check["width"]) == (2000, 400)
    with Image.open(io.BytesIO(from_url(check["image"]))) as shown:
        assert shown.size == (205, 1024)
    assert running.client.upload("/v1/check", png(image)).json["image"] is None


def test_an_explanation_is_the_engines(running: Running, engine: Engine) -> None:
    report = running.client.upload("/v1/report", png(film(1)), force=True, seed=3, **HOT).json
    sentence = report["sentences"][0]["text"] if report["sentences"] else report["text"][:5]
    fields = {"sentence": sentence, "token_ids": json.dumps(report["token_ids"]), "prompt": report["prompt"]}
    floats = running.client.upload("/v1/explain", png(film(1)), format="floats", **fields)
    assert floats.status == 200, floats.body
    heat = engine.explain(engine.write_report(film(1), seeds=[3], **HOT), sentence)
    np.testing.assert_allclose(floats.json["values"], heat / heat.max(), atol=1e-3)
    overlay = running.client.upload("/v1/explain", png(film(1)), **fields).json
    assert "not causes" in overlay["notice"]
    with Image.open(io.BytesIO(from_url(overlay["image"]))) as shown:
        assert (shown.mode, shown.size) == ("RGBA", (16, 20))
        alpha = np.asarray(shown)[..., 3]
    np.testing.assert_allclose(alpha, heat / heat.max() * 180, atol=0.6)


@pytest.mark.parametrize("token_ids", ["[]", "[999999]", "[-1]", "[1.5]", "nonsense", '"a"'])
def test_an_explanation_of_nonsense_is_refused(running: Running, token_ids: str) -> None:
    answer = running.client.upload("/v1/explain", png(film(1)), sentence="x", token_ids=token_ids)
    assert answer.status == 400, answer.body


def test_drawings_are_the_engines_and_marked(running: Running, engine: Engine) -> None:
    wanted = {"prompt": "Large mass.", "num_pictures": 2, "seed": 5, "num_steps": 4, "guidance_scale": 3.0}
    answer = running.client.post("/v1/draw", {**wanted, "guidance_interval": [0.0, 1.0], "solver": "heun"})
    assert answer.status == 200, answer.body
    pictures = engine.draw_images(
        ["Large mass."] * 2,
        seeds=[5, 6],
        num_steps=4,
        guidance_scale=3.0,
        guidance_interval=(0.0, 1.0),
        solver="heun",
    )
    for item, picture in zip(answer.json["pictures"], pictures, strict=True):
        assert item["seed"] == picture.seed
        with Image.open(io.BytesIO(from_url(item["data"]))) as shown:
            assert shown.text["Title"].startswith("SYNTHETIC")
            assert np.abs(np.asarray(shown).astype(int) - np.asarray(picture.image)).max() <= 1
    assert answer.json["settings"]["solver"] == "heun"
    assert "Not for diagnosis" in answer.json["synthetic_notice"]


def test_a_drawing_as_dicom_of_another_size(running: Running) -> None:
    answer = running.client.post(
        "/v1/draw", {"prompt": "Mass", "format": "dicom", "height_px": 4, "width_px": 8, "num_steps": 1}
    )
    content = from_url(answer.json["pictures"][0]["data"])
    assert answer.json["pictures"][0]["data"].startswith("data:application/dicom;")
    dataset = pydicom.dcmread(io.BytesIO(content))
    assert (dataset.Rows, dataset.Columns, dataset.PatientName) == (4, 8, "SYNTHETIC")
    assert b"Mass" not in content


def test_a_streamed_drawing_shows_its_steps(running: Running) -> None:
    answer = running.client.post(
        "/v1/draw", {"prompt": "Mass", "num_steps": 5, "preview_every": 2, "num_pictures": 2, "stream": True}
    )
    names = [name for name, _ in answer.events]
    assert names == ["queued", "started", *["step"] * 5, "pictures"]
    steps = [data for name, data in answer.events if name == "step"]
    assert [data["step"] for data in steps] == [1, 2, 3, 4, 5]
    shown = [data["step"] for data in steps if data["previews"]]
    assert set(shown) <= {2, 4}  # of a slow reader's backlog only the newest are kept
    for data in steps:
        for url in data["previews"] or []:
            with Image.open(io.BytesIO(from_url(url))) as preview:
                assert preview.text["Title"].startswith("SYNTHETIC")


def test_a_batch_answers_one_by_one(running: Running, engine: Engine) -> None:
    requests = [
        {"kind": "report", "image": as_url(png(film(1))), "force": True},
        {"kind": "draw", "prompt": "Mass", "num_steps": 1},
        {"kind": "report", "image": as_url(b"not a picture"), "force": True},
        {"kind": "report", "image": as_url(png(film(2)))},
    ]
    results = running.client.post("/v1/batch", {"requests": requests}).json["results"]
    assert [item["index"] for item in results] == [0, 1, 2, 3]
    assert results[0]["result"]["token_ids"] == list(engine.write_report(film(1)).token_ids)
    assert results[1]["result"]["pictures"][0]["seed"] == 0
    assert [item["error"]["code"] for item in results[2:]] == ["bad_image", "gate_refused"]


def test_a_job_is_followed_polled_and_forgotten_by_no_one_else(running: Running) -> None:
    client = running.client
    begun = client.post("/v1/jobs", {"kind": "draw", "prompt": "Mass", "num_steps": 3})
    assert begun.status == 202
    path = f"/v1/jobs/{begun.json['id']}"
    until(lambda: client.get(path).json["state"] == "done")
    status = client.get(path).json
    assert status["progress"] == 1.0
    assert status["result"]["pictures"][0]["data"].startswith("data:image/png")
    names = [name for name, _ in client.get(path + "/events").events]
    assert names == ["queued", "started", "step", "step", "step", "pictures"]
    assert [n for n, _ in client.get(path + "/events", last_event_id="4").events] == ["step", "pictures"]
    assert client.ask("DELETE", path).json["state"] == "done"
    assert client.get("/v1/jobs/job-of-nobody").code == "no_such_job"
    refused = client.post("/v1/jobs", {"kind": "draw", "prompt": "Mass", "stream": True})
    assert (refused.status, refused.code) == (400, "bad_setting")


def test_what_runs_beside_changes_nothing(running: Running, engine: Engine) -> None:
    """Sixteen clients at once, reading and drawing: each gets what the engine alone gives."""
    reads = {k: {"seed": k, "temperature": 1.0, "max_new_tokens": 5 + 3 * k} for k in range(12)}
    draws = {k: {"prompt": f"Mass {k % 3}", "seed": k, "num_steps": 2 + k} for k in range(4)}
    reading = {
        k: in_background(running.client.upload, "/v1/report", png(film(k)), force=True, **how)
        for k, how in reads.items()
    }
    drawing = {k: in_background(running.client.post, "/v1/draw", how) for k, how in draws.items()}
    for k, how in reads.items():
        alone = engine.write_report(film(k), seeds=[k], **{n: v for n, v in how.items() if n != "seed"})
        assert reading[k].result().json["token_ids"] == list(alone.token_ids)
    for k, how in draws.items():
        alone = engine.draw_image(how["prompt"], seed=k, num_steps=how["num_steps"])
        with Image.open(io.BytesIO(from_url(drawing[k].result().json["pictures"][0]["data"]))) as shown:
            assert np.abs(np.asarray(shown).astype(int) - np.asarray(alone.image)).max() <= 1


def test_settings_that_the_model_cannot_do_are_refused(running: Running) -> None:
    client = running.client
    for body in (
        {"prompt": "Mass", "height_px": 7, "width_px": 8},
        {"prompt": "Mass", "guidance_interval": [0.9, 0.1]},
        {"prompt": "  "},
    ):
        answer = client.post("/v1/draw", body)
        assert answer.status == 400, body
        assert answer.code in ("bad_setting", "bad_prompt")
    answer = client.upload("/v1/report", png(film(0)), force=True, max_new_tokens=4000)
    assert (answer.status, answer.code) == (400, "bad_prompt")
    assert client.post("/v1/draw", {"prompt": "Mass", "height_px": 8}).code == "invalid_request"


def test_the_multipart_helper_sends_what_browsers_send() -> None:
    body = multipart(b"\x00\xff", "a.png", {"seed": 1})
    assert body.count(b"Content-Disposition") == 2
    assert b"\r\n\r\n\x00\xff\r\n--" in body


def test_a_text_is_labelled_by_the_rules(running: Running) -> None:
    text = "Large right pleural effusion. No edema."
    answer = running.client.post("/v1/label", {"text": text}).json
    assert answer["labels"] == label_report(text)
    assert answer["labels"]["Pleural Effusion"] == "positive"
    assert [sentence["labels"] for sentence in answer["sentences"]] == [
        {"Pleural Effusion": "positive"},
        {"Edema": "negative"},
    ]


def test_a_report_is_exported(running: Running) -> None:
    finding = {"label": "Edema", "state": "negative", "sentence": "No edema.", "confidence": 0.5}
    wanted = {"text": "No edema.", "findings": [finding], "model": "tiny"}
    fhir = running.client.post("/v1/export", {**wanted, "format": "fhir"})
    assert fhir.headers["content-type"] == "application/fhir+json"
    assert fhir.json["resourceType"] == "DiagnosticReport"
    dicom = running.client.post("/v1/export", {**wanted, "format": "dicom_sr"})
    assert dicom.headers["content-type"] == "application/dicom"
    assert pydicom.dcmread(io.BytesIO(dicom.body)).Modality == "SR"
    assert running.client.post("/v1/export", {**wanted, "format": "pdf"}).status == 400
