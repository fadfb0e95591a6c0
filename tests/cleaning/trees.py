"""Small faithful imitations of the layouts that people have on disk: same folders, file names and columns.

Taken from the data sets' own pages: PhysioNet (mimic-cxr, mimic-cxr-jpg, llava-rad-mimic-cxr-annotation), OpenI,
Kaggle, R2Gen, Stanford AIMI, BIMCV, NIH. Pictures are phantoms; patients and reports are invented.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from unixcxr.phantom import sample_phantom
from unixcxr.records import LABELS

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // eval for pneumonia

 COMPARISON:  None.

 FINDINGS:

 There is a small right pleural effusion.  No pneumothorax is seen.

 IMPRESSION:

 Small right pleural effusion.
"""


@functools.cache
def film(seed: int) -> np.ndarray:
    """Return a drawn frontal chest, uint8 (192, 192)."""
    return sample_phantom(seed, size_px=192).image


def picture(path: Path, seed: int = 0) -> Path:
    """Save a drawn chest under a name; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(film(seed)).save(path)
    return path


def dicom(path: Path, seed: int = 0, image: np.ndarray | None = None, **tags: Any) -> Path:
    """Save a drawn chest as an uncompressed CR image with the given tags."""
    values = film(seed) if image is None else image
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{abs(hash(str(path))) % 10**9}"
    data.Modality, data.Rows, data.Columns = "CR", *values.shape
    data.PhotometricInterpretation, data.SamplesPerPixel, data.PixelRepresentation = "MONOCHROME2", 1, 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def view_code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    """Return a ViewCodeSequence of one item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Path:
    """Write a CSV, gzipped when its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(columns or rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def text(path: Path, content: str | bytes = REPORT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


MIMIC = [
    # subject, study, dicom id, ViewPosition, split
    ("10000032", "50414267", "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014", "PA", "train"),
    ("10000032", "50414267", "174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962", "LATERAL", "train"),
    ("10000032", "53189527", "2a2277a9-b0ded155-c0de8eb9-c124d10e-82c5caab", "AP", "train"),
    ("11000183", "51967845", "68b5c4b1-227d0485-9cc38c3f-7b84ab51-4b472714", "", "validate"),
    ("19999987", "58621812", "f50eeb5a-e1b5aae5-4b2ae1b9-7a4a3d3d-2dd1a2f8", "AP", "test"),
]
METADATA = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]


def mimic_path(subject: str, study: str, name: str = "") -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study}" + (f"/{name}" if name else "")


def mimic_jpg(root: Path, version: str = "2.0.0", gz: bool = True) -> Path:
    """MIMIC-CXR-JPG: images, metadata, split, CheXpert and NegBio tables, and MIMIC-CXR's report tree."""
    end = ".csv.gz" if gz else ".csv"
    meanings = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "": ""}
    rows = []
    for number, (subject, study, image, view, _) in enumerate(MIMIC):
        picture(root / mimic_path(subject, study, f"{image}.jpg"), number)
        text(root / f"{mimic_path(subject, study)}.txt")
        rows.append(
            {
                "dicom_id": image,
                "subject_id": subject,
                "study_id": study,
                "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
                "ViewPosition": view,
                "ViewCodeSequence_CodeMeaning": meanings[view],
            }
        )
    table(root / f"mimic-cxr-2.0.0-metadata{end}", rows, METADATA)
    splits = [
        {"dicom_id": image, "study_id": study, "subject_id": subject, "split": split}
        for subject, study, image, _, split in MIMIC
    ]
    table(root / f"mimic-cxr-2.0.0-split{end}", splits)
    labels = [
        {
            "subject_id": subject,
            "study_id": study,
            "Pleural Effusion": "1.0",
            "Pneumothorax": "0.0",
            "Edema": "-1.0",
        }
        for subject, study in dict.fromkeys(row[:2] for row in MIMIC)
    ]
    for name in ("chexpert", "negbio"):
        table(root / f"mimic-cxr-2.0.0-{name}{end}", labels, ["subject_id", "study_id", *sorted(LABELS)])
    if version == "2.1.0":
        table(root / "mimic-cxr-2.1.0-test-set-labeled.csv", [{"study_id": MIMIC[-1][1], "Edema": "1.0"}])
    return root


def mimic_dicom(root: Path, version: str = "2.0.0") -> Path:
    """MIMIC-CXR: DICOM images, record and study lists, and the report tree; one study has a report and no image."""
    records, studies = [], []
    for number, (subject, study, image, view, _) in enumerate(MIMIC):
        path = mimic_path(subject, study, f"{image}.dcm")
        dicom(root / path, number, PatientID=subject, StudyInstanceUID=f"2.25.{study}", ViewPosition=view)
        records.append({"subject_id": subject, "study_id": study, "dicom_id": image, "path": path})
    for subject, study in [*dict.fromkeys(row[:2] for row in MIMIC), ("10000935", "50578979")]:
        text(root / f"{mimic_path(subject, study)}.txt")
        studies.append(
            {"subject_id": subject, "study_id": study, "path": f"{mimic_path(subject, study)}.txt"}
        )
    table(root / "cxr-record-list.csv.gz", records)
    table(root / "cxr-study-list.csv.gz", studies)
    if version == "2.1.0":
        table(root / "cxr-provider-list.csv.gz", [{"subject_id": "10000032", "study_id": "50414267"}])
    return root


def llava_rad(root: Path) -> Path:
    """The three JSON files, as arrays, and the images of MIMIC-CXR-JPG; one image has a second, rule-based entry."""
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "validate": [], "test": []}
    for number, (subject, study, image, view, split) in enumerate(MIMIC):
        if view in ("PA", "AP"):
            picture(root / mimic_path(subject, study, f"{image}.jpg"), number)
            for method in ("rule-based", "gpt4") if number == 0 else ("gpt4",):
                entries[split].append(
                    {
                        "id": f"{subject}_{study}",
                        "image": f"mimic/{mimic_path(subject, study, image)[6:]}.jpg",
                        "generate_method": method,
                        "reason": "___ year old woman with cough",
                        "impression": "Small right pleural effusion." if method == "gpt4" else None,
                        "indication": None,
                        "history": None,
                        "view": view,
                        "orientation": "Erect",
                        "chexpert_labels": {
                            "Pleural Effusion": 1.0,
                            "Edema": float("nan"),
                            "Pneumothorax": 0.0,
                        },
                        "split": split,
                        "conversations": [
                            {
                                "from": "human",
                                "value": "<image>\nDescribe the findings of the chest x-ray.\n",
                            },
                            {"from": "gpt", "value": f"Small right pleural effusion ({method})."},
                        ],
                    }
                )
    for split, rows in entries.items():
        name = f"chat_{split}_MIMIC_CXR_all_gpt4extract_rulebased_v1.json"
        text(root / name, json.dumps(rows, indent=1))
    return root


def chexgenbench(root: Path) -> Path:
    """MIMIC_Splits/ of the benchmark, with paths below a MIMIC-CXR-JPG folder that lies elsewhere."""
    for part in ("TRAIN", "TEST"):
        rows = [
            {
                "path": mimic_path(subject, study, f"{image}.jpg"),
                "subject_id": subject,
                "study_id": study,
                "view": view,
                "annotated_prompt": "Small right pleural effusion. No pneumothorax.",
                "chexpert_labels": "{'Pleural Effusion': 1.0, 'Edema': nan, 'Pneumothorax': 0.0}",
            }
            for subject, study, image, view, split in MIMIC
            if view in ("PA", "AP") and (split == "test") == (part == "TEST")
        ]
        table(root / "MIMIC_Splits" / f"LLAVARAD_ANNOTATIONS_{part}.csv", rows)
    return root


OPENI_XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><meta type="rr"/><uId id="CXR{uid}"/><pmcId id="{uid}"/><MedlineCitation Owner="Indiana University"><Article>
<Abstract><AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Positive TB test</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract></Article></MedlineCitation>
<MeSH><major>normal</major></MeSH>
<parentImage id="CXR{uid}_IM-0001-3001"><figureId>F1</figureId>
<caption>Xray Chest PA and Lateral</caption></parentImage>
<parentImage id="CXR{uid}_IM-0001-4001"><figureId>F2</figureId>
<caption>Xray Chest PA and Lateral</caption></parentImage>
</eCitation>
"""


def openi(root: Path, with_projections: bool = True) -> Path:
    """NLMCXR_reports/ecgen-radiology and NLMCXR_png, with a report whose texts are empty and a broken one."""
    reports = root / "NLMCXR_reports" / "ecgen-radiology"
    for uid, findings in ((1, "The lungs are clear."), (2, ""), (10, "Small effusion.")):
        impression = "" if uid == 2 else "No acute disease." if uid == 1 else "Small effusion."
        text(reports / f"{uid}.xml", OPENI_XML.format(uid=uid, findings=findings, impression=impression))
        for number in (3001, 4001):
            picture(root / "NLMCXR_png" / f"CXR{uid}_IM-0001-{number}.png", uid + number)
    text(reports / "11.xml", "<eCitation><uId id=")
    if with_projections:
        rows = [
            {"uid": uid, "filename": f"{uid}_IM-0001-{number}.dcm.png", "projection": side}
            for uid in (1, 2, 10)
            for number, side in ((3001, "Frontal"), (4001, "Lateral"))
        ]
        table(root / "indiana_projections.csv", rows)
    return root


def iu_kaggle(root: Path) -> Path:
    """indiana_reports.csv, indiana_projections.csv and images/images_normalized."""
    reports = [
        {
            "uid": uid,
            "MeSH": "normal",
            "Problems": "normal",
            "image": "Xray Chest PA and Lateral",
            "indication": "Positive TB test",
            "comparison": "None.",
            "findings": findings,
            "impression": "Normal chest x-XXXX." if findings else "",
        }
        for uid, findings in ((1, "The lungs are clear."), (4, ""))
    ]
    table(root / "indiana_reports.csv", reports)
    rows = [
        {"uid": uid, "filename": f"{uid}_IM-0001-{number}.dcm.png", "projection": side}
        for uid in (1, 4)
        for number, side in ((3001, "Lateral"), (4001, "Frontal"))
    ]
    table(root / "indiana_projections.csv", rows)
    for number, row in enumerate(rows):
        picture(root / "images" / "images_normalized" / str(row["filename"]), number)
    return root


def r2gen(root: Path) -> Path:
    """R2Gen's iu_xray: annotation.json and images/<id>/0.png, 1.png."""
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for number, (name, split) in enumerate(
        (("CXR2384_IM-0942", "train"), ("CXR2926_IM-1328", "val"), ("CXR33_IM-1", "test"))
    ):
        for view in (0, 1):
            picture(root / "images" / name / f"{view}.png", 2 * number + view)
        splits[split].append(
            {
                "id": name,
                "report": "The heart size is normal. The lungs are clear.",
                "image_path": [f"{name}/0.png", f"{name}/1.png"],
                "split": split,
            }
        )
    text(root / "annotation.json", json.dumps(splits))
    return root


def chexpert(root: Path) -> Path:
    """CheXpert-v1.0-small: train.csv and valid.csv beside train/ and valid/, no reports."""
    columns = [
        "Path",
        "Sex",
        "Age",
        "Frontal/Lateral",
        "AP/PA",
        "No Finding",
        *[x for x in LABELS if x != "No Finding"],
    ]
    for split, patients in (("train", ("patient00001", "patient00002")), ("valid", ("patient64541",))):
        rows = []
        for patient in patients:
            for view, side, direction in (
                ("view1_frontal", "Frontal", "AP"),
                ("view2_lateral", "Lateral", ""),
            ):
                name = f"{split}/{patient}/study1/{view}.jpg"
                picture(root / name, int(patient[-2:]))
                rows.append(
                    {
                        "Path": f"CheXpert-v1.0-small/{name}",
                        "Sex": "Female",
                        "Age": 68,
                        "Frontal/Lateral": side,
                        "AP/PA": direction,
                        "No Finding": "",
                        "Edema": "-1.0",
                        "Pleural Effusion": "1.0",
                        "Pneumothorax": "0.0",
                    }
                )
        table(root / f"{split}.csv", rows, columns)
    return root


def chexpert_plus(root: Path) -> Path:
    """df_chexpert_plus_240401.csv and PNG/."""
    rows = []
    for number, (patient, view, side) in enumerate(
        (("42142", "view1_frontal", "AP"), ("42142", "view2_lateral", ""))
    ):
        name = f"train/patient{patient}/study5/{view}"
        picture(root / "PNG" / f"{name}.png", number)
        rows.append(
            {
                "path_to_image": f"{name}.jpg",
                "path_to_dcm": f"{name}.dcm",
                "frontal_lateral": "Lateral" if "lateral" in view else "Frontal",
                "ap_pa": side,
                "deid_patient_id": f"patient{patient}",
                "patient_report_date_order": 5,
                "report": "NARRATIVE:\nXR CHEST 1 VIEW: 1/1/2001\n\nIMPRESSION:\n1. Small right pleural effusion.\n",
                "section_findings": "",
                "section_impression": "1. Small right pleural effusion.",
                "split": "train",
            }
        )
    table(root / "df_chexpert_plus_240401.csv", rows)
    return root


def padchest(root: Path) -> Path:
    """PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and numbered folders."""
    study, patient = "216840111366964012768025509942010180105903018", "839860488694292331637988235681460987"
    rows = []
    for number, (projection, tag) in enumerate(
        (("PA", "POSTEROANTERIOR"), ("L", "LATERAL"), ("AP_horizontal", "AP"))
    ):
        name = f"{study}_02-10{number}.png"
        picture(root / "0" / name, number)
        rows.append(
            {
                "": number,
                "ImageID": name,
                "ImageDir": "0",
                "StudyDate_DICOM": "20140915",
                "StudyID": study,
                "PatientID": patient,
                "ViewPosition_DICOM": tag,
                "Projection": projection,
                "MethodProjection": "Manual review of DICOM fields",
                "Pediatric": "No",
                "ReportID": "4765777",
                "Report": "derram pleural derech .",
                "MethodLabel": "Physician",
                "Labels": "['pleural effusion', 'cardiomegaly']",
                "LabelsLocalizationsBySentence": "['pleural effusion', 'loc right'], ['cardiomegaly']",
            }
        )
    for row in rows:
        row["LabelsLocalizationsBySentence"] = f"[{row['LabelsLocalizationsBySentence']}]"
    table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", rows)
    return root


def nih14(root: Path) -> Path:
    """Data_Entry_2017.csv, images_001/images, train_val_list.txt, test_list.txt."""
    rows = [
        {
            "Image Index": name,
            "Finding Labels": found,
            "Follow-up #": 0,
            "Patient ID": patient,
            "Patient Age": 58,
            "Patient Gender": "M",
            "View Position": view,
            "OriginalImage[Width": 2682,
            "Height]": 2749,
            "OriginalImagePixelSpacing[x": 0.143,
            "y]": 0.143,
        }
        for name, found, patient, view in (
            ("00000001_000.png", "Cardiomegaly|Effusion", "1", "PA"),
            ("00000001_001.png", "Cardiomegaly|Emphysema", "1", "PA"),
            ("00000003_000.png", "Hernia", "3", "AP"),
            ("00000005_000.png", "No Finding", "5", "PA"),
        )
    ]
    table(root / "Data_Entry_2017.csv", rows)
    for number, row in enumerate(rows):
        picture(root / f"images_00{1 + number % 2}" / "images" / str(row["Image Index"]), number)
    text(root / "train_val_list.txt", "00000001_000.png\n00000001_001.png\n")
    text(root / "test_list.txt", "00000003_000.png\n")
    return root


def table_folder(root: Path) -> Path:
    """A CSV of one's own beside a folder of images."""
    rows = [
        {
            "image": f"images/{n}.png",
            "report": "FINDINGS: Small right pleural effusion.",
            "patient_id": f"p{n}",
            "view": "PA",
        }
        for n in range(4)
    ]
    table(root / "data.csv", rows)
    for number, row in enumerate(rows):
        picture(root / row["image"], number)
    return root


def dicom_folder(root: Path) -> Path:
    """What a PACS export looks like: names that mean nothing, a DICOMDIR, a lateral, a damaged file, no reports."""
    dicom(root / "A001" / "IM0001", 0, PatientID="ANON1", StudyInstanceUID="1.2.840.1", ViewPosition="PA")
    dicom(root / "A001" / "IM0002", 1, PatientID="ANON1", StudyInstanceUID="1.2.840.1", ViewPosition="LL")
    dicom(
        root / "A002" / "IM0001",
        2,
        PatientID="ANON2",
        StudyInstanceUID="1.2.840.2",
        ViewCodeSequence=view_code("R-10206", "SRT", "antero-posterior"),
    )
    dicom(
        root / "A003.dcm",
        3,
        PatientID="ANON3",
        StudyInstanceUID="1.2.840.3",
        SeriesDescription="W Chest Lat.",
    )
    text(root / "A004.dcm", b"\0" * 128 + b"DICM" + b"\x02\x00\x00")
    text(root / "DICOMDIR", b"index")
    return root


BUILDERS = {
    "mimic-cxr-jpg": mimic_jpg,
    "mimic-cxr": mimic_dicom,
    "llava-rad": llava_rad,
    "chexgenbench": chexgenbench,
    "openi": openi,
    "iu-kaggle": iu_kaggle,
    "r2gen": r2gen,
    "chexpert": chexpert,
    "chexpert-plus": chexpert_plus,
    "padchest": padchest,
    "nih14": nih14,
    "table": table_folder,
    "dicom": dicom_folder,
}
