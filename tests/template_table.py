"""Everything in the public YOLO training template, and its counterpart in Shiftscope.

`python -m tests.template_table` writes docs/from-the-template.md.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One feature of the template.

    template: the feature
    here: its counterpart, "" where there is none
    remark: which fault of the template it does not have, or what to use instead
    tests: tests that show it, as file::name
    """

    template: str
    here: str
    remark: str = ""
    tests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A file of the template, or several of one kind.

    title: heading
    rows: its features
    """

    title: str
    rows: tuple[Row, ...]


# Purpose, command line of the template, command line of Shiftscope.
MOVING = (
    (
        "train",
        "python scripts/main.py --dataset OWNER/SET --nc 1 --names Potholes --epochs 60 --imgsz 512 --batch "
        "32 "
        "--device 0 --name mine",
        "shiftscope train kaggle:OWNER/SET --names Potholes --epochs 60 --imgsz 512 --batch 32 --device 0 "
        "--name mine",
    ),
    (
        "train on a local dataset",
        "not possible: only Kaggle handles",
        "shiftscope train path/to/dataset",
    ),
    (
        "train, and evaluate on real footage after every epoch",
        "not possible",
        "shiftscope train path/to/dataset --real-world flight.mp4",
    ),
    (
        "continue from weights",
        "python scripts/main.py ... --weights runs/train/mine/weights/best.pt",
        "shiftscope train path/to/dataset --model runs/train/mine",
    ),
    (
        "resume an interrupted run",
        "python scripts/main.py ... --project runs/train --name mine --resume",
        "shiftscope train path/to/dataset --resume runs/train/mine",
    ),
    (
        "predict an image",
        "python scripts/inference.py --model best.pt --input road.jpg --output road-out.jpg --no-display",
        "shiftscope predict road.jpg --weights best.pt",
    ),
    (
        "predict a video",
        "python scripts/inference.py --model best.pt --input drive.mp4 --output drive-out.mp4 --no-display",
        "shiftscope predict drive.mp4 --weights best.pt",
    ),
    ("predict a folder", "not possible", "shiftscope predict drives/ --weights best.pt"),
    (
        "predict a camera",
        "python scripts/inference.py --model best.pt --input webcam",
        "shiftscope predict webcam --weights best.pt --show",
    ),
    (
        "clean and augment",
        "python scripts/main.py ... --preprocess --preprocess-config preprocessing_config.yaml",
        "shiftscope prepare path/to/dataset --copies 2",
    ),
    (
        "label automatically",
        "python autolabeling/auto-label.py --input_folder images --text_prompt pothole --output_path out",
        "shiftscope prepare images/ --weights best.pt --conf 0.35",
    ),
    (
        "explore and annotate",
        "streamlit run streamlit_app.py",
        "shiftscope inspect path/to/dataset` and, after a report, `shiftscope app",
    ),
    (
        "export",
        "python scripts/main.py ... --export-ncnn",
        "shiftscope export runs/train/mine --format ncnn",
    ),
    ("notebook", "notebooks/yolo_template.ipynb", "train/notebook.ipynb"),
    (
        "why it fails on real footage",
        "not possible",
        "shiftscope report --run runs/train/mine --real-world flight.mp4",
    ),
    (
        "what to add next",
        "not possible",
        "shiftscope next --run runs/train/mine --real-world flight.mp4 --pool drives/",
    ),
)

LAYOUTS = "test_sources.py::test_layouts_without_a_yaml"
RESUMED = "test_training.py::test_a_killed_training_is_resumed"
COMMAND = "test_prepare.py::test_the_command"
KAGGLE = "test_kaggle.py::test_a_handle_opens_as_a_dataset_and_is_pinned"
CLASSES = "test_sources.py::test_class_names_of_a_folder"
UNTOUCHED = "test_prepare.py::test_the_ledger_adds_up_and_the_result_opens_everywhere"
MESSY = "test_prepare.py::test_every_file_and_box_of_a_faulty_dataset_is_kept_repaired_or_listed"
WATCHED = "test_watch.py::test_the_command_watches_and_refuses_wrong_requests"
SAME_BOXES = "test_export.py::test_the_exported_detector_gives_the_same_boxes"
DRAFTS = "test_prepare.py::test_drafts_are_marked_detections_in_training_images_only"

SECTIONS = (
    Section(
        "scripts/main.py: functions",
        (
            Row(
                "`download_dataset(handle)`",
                "a SOURCE `kaggle:owner/dataset`, or `kaggle:owner/dataset/versions/3`",
                "pinned to its version, checked file by file, resumed after an interruption, with its "
                "licence in the report",
                (KAGGLE, "test_kaggle.py::test_a_broken_download_resumes"),
            ),
            Row(
                "`detect_dataset_structure(path)`",
                "any SOURCE; `shiftscope inspect SOURCE` reports what is read",
                "`val/`, `validation/`, `images/train`, capitals, nested, uneven and flat folders are read, "
                "an existing data.yaml too; "
                "with two datasets in one folder none is guessed",
                (
                    LAYOUTS,
                    "test_sources.py::test_a_flat_folder_has_no_splits",
                    "test_sources.py::test_a_yaml_is_found_where_exports_put_it",
                    "test_sources.py::test_two_datasets_in_one_folder_are_refused",
                ),
            ),
            Row(
                "`create_yaml(...)`",
                "`shiftscope train SOURCE` writes its own beside the run",
                "no yaml in the current folder, none overwritten, and a missing split is reported before "
                "training",
                (
                    "test_training.py::test_staging_links_each_image_and_writes_its_own_labels",
                    "test_training.py::test_staging_needs_train_and_val",
                ),
            ),
            Row(
                "`train_model(...)`",
                "`shiftscope train SOURCE`, or `reports.watch.attach(model, real_world=...)` before "
                "`model.train()` in your own script",
                "a new folder each time, so the earlier run stays; every argument of Ultralytics can be "
                "set, the seed too",
                ("test_training.py::test_two_trainings_started_together_get_different_folders", RESUMED),
            ),
            Row(
                "`export_to_ncnn(model_path, output_path)`",
                "`shiftscope export WEIGHTS --format ncnn`",
                "the printed path is correct; any format of Ultralytics; nothing is written beside the "
                "checkpoint",
                (
                    SAME_BOXES,
                    "test_export.py::test_every_format_of_ultralytics_is_offered_with_its_arguments",
                ),
            ),
            Row(
                "`main()`",
                "`shiftscope` with one command for each job",
                "an error is one line and an exit code, before any work",
                (
                    "test_command_line.py::test_help_names_every_command",
                    "test_command_line.py::test_what_a_user_gets_wrong",
                ),
            ),
        ),
    ),
    Section(
        "scripts/main.py: options",
        (
            Row(
                "`--dataset`",
                "the argument SOURCE of `shiftscope train`",
                "a folder, a data.yaml, COCO and VOC too",
                (KAGGLE, LAYOUTS),
            ),
            Row(
                "`--nc`",
                "the number of `--names`",
                "cannot disagree with the names",
                (CLASSES,),
            ),
            Row(
                "`--names`",
                "`--names pothole,crack`",
                "only for a source without class names",
                (CLASSES,),
            ),
            Row(
                "`--epochs 60`",
                "`--epochs 60`, the default",
                "",
                (
                    RESUMED,
                    "test_watch.py::test_one_line_watches_in_any_script",
                ),
            ),
            Row(
                "`--imgsz 512`",
                "`--imgsz 512`; default: that of the run continued from, else 640",
                "a continued run keeps its image size",
                ("test_earlier_run.py::test_training_continues_at_the_image_size_of_the_parent_run",),
            ),
            Row(
                "`--batch 32`",
                "`--batch 32`; default 16",
                "halved if memory runs out",
                ("test_training.py::test_the_batch_is_halved_when_memory_runs_out",),
            ),
            Row(
                "`--device 0`",
                "`--device 0`; default: a GPU if available",
                "a machine without a GPU needs no option",
                (WATCHED,),
            ),
            Row(
                "`--project runs/train`",
                "the environment variable `SHIFTSCOPE_RUNS` (default `runs`); runs are in its folder `train`",
                "",
                (RESUMED,),
            ),
            Row(
                "`--name yolo_train`",
                "`--name mine`; a taken name gets a number",
                "nothing is overwritten",
                ("test_training.py::test_two_trainings_started_together_get_different_folders",),
            ),
            Row(
                "`--weights`",
                "`--model best.pt`, or the run's folder",
                "the new run records the earlier one, and the report compares them",
                ("test_earlier_run.py::test_lineage_leads_to_the_parent_run",),
            ),
            Row(
                "`--resume`",
                "`--resume runs/train/mine`",
                "epochs and image size are those of the start; a finished run is refused; a kill while the "
                "checkpoint is written "
                "costs one epoch",
                (RESUMED,),
            ),
            Row(
                "`--preprocess`",
                "`shiftscope prepare SOURCE`, whose printed data.yaml is the SOURCE to train on",
                "a copy; the dataset is not changed",
                (COMMAND, UNTOUCHED),
            ),
            Row(
                "`--preprocess-config`",
                "`shiftscope prepare SOURCE --copies 2 --recipe FILE`",
                "a wrong key is refused by name",
                ("test_prepare.py::test_an_invalid_recipe_is_refused_with_the_names_of_file_and_key",),
            ),
            Row(
                "`--augment-only`",
                "`shiftscope prepare SOURCE --copies 2`",
                "cleaning does not change the source",
                (UNTOUCHED,),
            ),
            Row("`--export-ncnn`", "`shiftscope export RUN --format ncnn`", "", (SAME_BOXES,)),
            Row(
                "all other hyper-parameters: Ultralytics' defaults",
                "`KEY=VALUE` after the SOURCE, such as `optimizer=AdamW lr0=0.001 patience=20 save_period=5`",
                "an unknown name is refused before anything is loaded",
                (WATCHED,),
            ),
        ),
    ),
    Section(
        "scripts/inference.py",
        (
            Row(
                "`load_model`, `--model`",
                "`--weights best.pt`",
                "no code in a checkpoint runs",
                ("test_forward.py::test_a_checkpoint_with_code_is_refused_and_does_not_run",),
            ),
            Row(
                "`infer_image`, `--input road.jpg`",
                "`shiftscope predict road.jpg --weights best.pt`",
                "an unreadable image is named (the template shows boxes of Ultralytics' example images); "
                "folders, .webp, .tif and "
                "more are read",
                (
                    "test_predict.py::test_detections_equal_those_of_ultralytics",
                    "test_predict.py::test_unreadable_files_are_reported",
                ),
            ),
            Row(
                "`infer_video`, `--input drive.mp4`",
                "`shiftscope predict drive.mp4 --weights best.pt`",
                "needs no ffmpeg program, keeps the sound, is written to any output path, and resumes after "
                "a kill",
                (
                    "test_predict.py::test_videos_keep_their_times_and_their_sound",
                    "test_predict.py::test_a_killed_prediction_of_a_video_resumes",
                ),
            ),
            Row(
                "`infer_webcam`, `--input webcam`",
                "`shiftscope predict webcam --weights best.pt --show`",
                "boxes are saved too",
                (
                    "test_predict.py::test_a_camera_is_written_as_a_video",
                    "test_predict.py::test_ctrl_c_stops_a_camera_and_keeps_its_frames",
                ),
            ),
            Row(
                "`--conf 0.5`",
                "`--conf 0.5`; default 0.25",
                "the report recommends a threshold",
                ("test_hypotheses.py::test_threshold",),
            ),
            Row(
                "`--output`",
                "`--out FOLDER`; default `runs/predict/NAME`, printed on stdout",
                "nothing is overwritten",
                ("test_predict.py::test_images_are_drawn_on_copies_and_no_prediction_is_repeated",),
            ),
            Row(
                "`--no-display`",
                "the default; `--show` shows it in a browser",
                "",
                ("test_predict.py::test_the_window_serves_the_newest_image_to_this_machine_only",),
            ),
            Row(
                "only pixels are saved",
                "`boxes.parquet`, `boxes.csv`, `coco.json` and YOLO `labels/` beside the images; `--iou`, "
                "`--imgsz`, `--stride`",
                "detections can be analysed: `shiftscope report --real-world runs/predict/NAME` reads them",
                (
                    "test_predict.py::test_all_tables_agree",
                    "test_predict.py::test_the_result_is_a_domain_of_a_report",
                ),
            ),
        ),
    ),
    Section(
        "scripts/preprocessing.py and preprocessing_config.yaml",
        (
            Row(
                "`YOLODataPreprocessor(config_path)`, `_load_config`, `_merge_configs`, "
                "`create_default_config`",
                "`train/augment.yaml` is the default; `--recipe FILE` takes another",
                "",
                (
                    "test_prepare.py::test_the_default_recipe_is_in_the_package_and_commented",
                    "test_prepare.py::test_an_invalid_recipe_is_refused_with_the_names_of_file_and_key",
                ),
            ),
            Row(
                "`clean_dataset`: unreadable images",
                "left out of the copy, with the reason in `ledger.csv`",
                "nothing is deleted",
                (MESSY, UNTOUCHED),
            ),
            Row(
                "`clean_dataset`: label lines",
                "rejected or repaired one by one, with file and line in `rows.csv`",
                "polygons become boxes instead of being deleted",
                (MESSY, "test_sources.py::test_bad_rows_are_rejected_with_a_reason"),
            ),
            Row(
                "`min_bbox_size`",
                "`--min-side 1`",
                "",
                ("test_prepare.py::test_boxes_are_removed_as_the_options_define",),
            ),
            Row(
                "`max_bbox_size_ratio 0.9`",
                "`--max-share 0.9`; default 1, which keeps all",
                "close-ups are removed only with this option",
                ("test_prepare.py::test_close_ups_are_removed_only_on_request",),
            ),
            Row(
                "`augment_dataset`, `_build_augmentation_pipeline`, `augment_factor 2`",
                "`--copies 2`",
                "copies of copies are refused; the same seed gives the same bytes",
                (
                    "test_prepare.py::test_copies_of_copies_are_refused_and_cleaning_twice_is_not",
                    "test_prepare.py::test_the_same_seed_gives_the_same_bytes_and_another_does_not",
                ),
            ),
            Row(
                "horizontal flip, vertical flip, rotation",
                "`horizontal_flip`, `vertical_flip`, `rotation` of the recipe",
                "boxes fit the visible part of each object afterwards",
                (
                    "test_prepare.py::test_flipped_boxes_are_exact",
                    "test_prepare.py::test_boxes_fit_the_image_after_every_geometric_change",
                ),
            ),
            Row(
                "brightness and contrast, HSV",
                "`tone`, `colour`",
                "",
                ("test_prepare.py::test_photometric_changes_keep_boxes",),
            ),
            Row(
                "Gaussian blur and noise",
                "`blur`, `noise`",
                "the noise has the standard deviation in the recipe",
                ("test_prepare.py::test_noise_has_the_standard_deviation_of_the_recipe",),
            ),
            Row(
                "`preprocess_dataset`, its counts",
                "the command's lines, `--json`, `ledger.csv` and `rows.csv`",
                "every file is accounted for",
                (UNTOUCHED, COMMAND),
            ),
        ),
    ),
    Section(
        "scripts/dataset_explorer.py",
        (
            Row("`load_dataset`", "any SOURCE", "one reader for every command", (LAYOUTS,)),
            Row(
                "`parse_yolo_labels`",
                "`shiftscope inspect SOURCE`",
                "labels in `labels/` are counted; the template counts none",
                (
                    "test_sources.py::test_a_data_yaml_gives_splits_groups_and_boxes",
                    "test_sources.py::test_bad_rows_are_rejected_with_a_reason",
                ),
            ),
            Row(
                "`compute_dataset_stats`",
                "`shiftscope inspect SOURCE`: images per split, annotations per class, what is skipped and "
                "why",
                "",
                ("test_sources.py::test_every_file_is_in_the_ledger_once",),
            ),
            Row(
                "`draw_annotations`, `get_sample_images`",
                "`shiftscope app` after a report: images with annotations and detections",
                "labels show their class and confidence",
                (
                    "test_predict.py::test_tags_stay_inside_the_image",
                    "test_workbench.py::test_saved_views_hold_what_their_names_promise",
                ),
            ),
        ),
    ),
    Section(
        "streamlit_app.py",
        (
            Row(
                "the app itself",
                "",
                "use the commands, the report's page and the FiftyOne App, which listens on this machine "
                "only",
                ("test_app.py::test_the_app_opens_on_the_false_positives_at_the_loopback_address",),
            ),
            Row(
                "page Training, with its sliders",
                "`shiftscope train SOURCE`",
                "shows progress, trains on a local dataset, and can be interrupted",
                (RESUMED,),
            ),
            Row(
                "page Inference",
                "`shiftscope predict SOURCE --weights best.pt`",
                "no result of another image is shown; a webcam works",
                (
                    "test_predict.py::test_images_are_drawn_on_copies_and_no_prediction_is_repeated",
                    "test_predict.py::test_a_camera_is_written_as_a_video",
                ),
            ),
            Row("page Preprocessing", "`shiftscope prepare SOURCE`", "", (COMMAND,)),
            Row(
                "page Dataset Explorer: Explore",
                "`shiftscope app`",
                "",
                ("test_app.py::test_the_workspace_opens_and_the_view_holds_the_false_positives",),
            ),
            Row(
                "page Dataset Explorer: Manual Annotation",
                "*Annotate* in `shiftscope app`, then `shiftscope app --pull`; or `shiftscope next` for "
                "CVAT and Label Studio",
                "corrections are stored, and used by the next report and training",
                ("test_app.py::test_edits_in_the_app_are_read_back_and_used",),
            ),
            Row(
                "page Auto-labeling",
                "`shiftscope prepare SOURCE --weights best.pt`, then `shiftscope app` on the folder it "
                "prints",
                "drafts are reviewed and corrected, the least confident first, before anything is trained "
                "on them",
                (DRAFTS, "test_drafts.py::test_drafts_are_shown_corrected_and_used"),
            ),
            Row(
                "page Export",
                "`shiftscope export WEIGHTS --format ncnn`",
                "every format of Ultralytics",
                (SAME_BOXES,),
            ),
            Row(
                "upload of a zip",
                "a SOURCE that you unpack; archives from Kaggle are unpacked by Shiftscope",
                "an archive cannot write outside its folder",
                ("test_kaggle.py::test_hostile_archives_are_refused_and_leave_nothing",),
            ),
        ),
    ),
    Section(
        "autolabeling/auto-label.py",
        (
            Row(
                "`create_yolo_dataset(...)`, `--input_folder`, `--output_path`",
                "`shiftscope prepare images/ --weights best.pt --out FOLDER`",
                "drafts are for training only and marked in the ledger, so validation labels never come "
                "from the detector",
                (
                    DRAFTS,
                    "test_prepare.py::test_an_image_without_confident_detections_is_not_a_background_image",
                ),
            ),
            Row(
                "`--text_prompt`, `--text_threshold`, `--config_path`, `--checkpoint_path` (GroundingDINO)",
                "",
                "no text prompts. Any detection checkpoint drafts labels; Ultralytics describes how to save "
                "a YOLO-World model "
                "with your own classes as one (not tested here)",
                (),
            ),
            Row("`--box_threshold 0.35`", "`--conf 0.35`", "", (DRAFTS,)),
        ),
    ),
    Section(
        "scripts/face_blurring.py and select_blurring.py",
        (
            Row(
                "blurring of faces on a webcam",
                "`shiftscope predict SOURCE --weights FILE --blur face`",
                "the result is saved; any class of any detection checkpoint, in images, videos and on a "
                "camera",
                ("test_predict.py::test_a_blurred_class_is_not_outlined_and_nothing_else_changes",),
            ),
            Row(
                "body parts chosen with the mouse, weights from Hugging Face",
                "",
                "no mouse and no segmentation: name the classes, `--blur face,plate`, and give your own "
                "checkpoint",
                (),
            ),
        ),
    ),
    Section(
        "notebooks/yolo_template.ipynb",
        (
            Row(
                "0 Colab badge",
                "`train/notebook.ipynb` opens in Colab and locally",
                "names no address: you fill in that of your repository",
                ("test_notebook.py::test_the_notebook_is_valid_and_without_outputs",),
            ),
            Row(
                "1 pip, 2 imports",
                "its first cell",
                "",
                ("test_notebook.py::test_the_notebook_runs_from_top_to_bottom",),
            ),
            Row(
                "3 training functions, 4 inference functions",
                "",
                "not in the notebook: it calls the commands",
                ("test_notebook.py::test_the_notebook_runs_from_top_to_bottom",),
            ),
            Row(
                "5 parameters, 6 run training",
                "its cells Settings and Train",
                "continues from weights with `MODEL`, without editing a function",
                ("test_notebook.py::test_the_notebook_runs_from_top_to_bottom",),
            ),
            Row(
                "7 inference parameters, 8 run inference",
                "its cell Predict the footage",
                "",
                ("test_notebook.py::test_the_notebook_runs_from_top_to_bottom",),
            ),
            Row(
                "9 validation on a second dataset",
                "its cells Training curves and Report",
                "any footage, labelled or not, without its own data.yaml; the result is a page, not a "
                "printed object",
                (
                    "test_notebook.py::test_the_notebook_runs_from_top_to_bottom",
                    "test_main_job.py::test_it_finds_the_cause_that_was_built_in_and_no_other",
                ),
            ),
        ),
    ),
    Section(
        "documents and other files",
        (
            Row(
                "docs/QUICKSTART-GUIDE: Colab and its cells",
                "[train/notebook.ipynb](../train/notebook.ipynb)",
                "",
                ("test_notebook.py::test_the_notebook_runs_from_top_to_bottom",),
            ),
            Row(
                "docs/QUICKSTART-GUIDE: Google Drive",
                "",
                "mount it yourself and set `SHIFTSCOPE_RUNS` to a folder in it",
                (RESUMED,),
            ),
            Row("docs/streamlit_app.md", "[README.md](../README.md), In the FiftyOne App", "", ()),
            Row(
                "docs/CONTRIBUTING, AGENTS.md",
                "[CONTRIBUTING.md](../CONTRIBUTING.md)",
                "its rules are tests",
                ("test_architecture.py::test_imports_follow_the_flow",),
            ),
            Row(
                "requirements.txt",
                "`make setup`, from `requirements.lock`",
                "every package, at a tested version",
                ("test_faults.py::test_every_dependency_has_a_bound",),
            ),
            Row("example_datasets.md", "the datasets below, and any other", "", ()),
        ),
    ),
    Section(
        "example datasets",
        (
            Row(
                "`jocelyndumlao/multi-weather-pothole-detection-mwpd`",
                "`shiftscope train kaggle:jocelyndumlao/multi-weather-pothole-detection-mwpd --names "
                "Potholes`",
                "",
                (KAGGLE,),
            ),
            Row(
                "`valentynsichkar/traffic-signs-dataset-in-yolo-format`",
                "`shiftscope inspect kaggle:...`; a flat folder has no splits, so write a data.yaml with "
                "`train:` and `val:` to "
                "train on it",
                "it is read; the template finds no split in it",
                (
                    "test_sources.py::test_a_flat_folder_has_no_splits",
                    "test_sources.py::test_a_data_yaml_gives_splits_groups_and_boxes",
                ),
            ),
            Row(
                "`jessicali9530/lfw-dataset`, `paultimothymooney/chest-xray-pneumonia`",
                "`--real-world kaggle:...`, or `shiftscope prepare kaggle:... --weights FILE` for draft "
                "boxes",
                "unlabelled, because it has no boxes; training on it is refused",
                (
                    "test_sources.py::test_a_folder_without_labels_is_unlabelled",
                    "test_training.py::test_staging_needs_train_and_val",
                ),
            ),
            Row(
                "`antoreepjana/animals-detection-images-dataset`",
                "`shiftscope inspect kaggle:...`",
                "classes are those of the dataset; a row of another class is rejected and counted",
                ("test_sources.py::test_bad_rows_are_rejected_with_a_reason",),
            ),
            Row(
                "`andrewmvd/car-plate-detection`",
                "`shiftscope inspect kaggle:...`; Pascal VOC is read directly",
                "the template cannot read its XML",
                ("test_sources.py::test_pascal_voc",),
            ),
            Row(
                "`nmata010/overhead-potholes-test-set-v1`",
                "`shiftscope report --run RUN --real-world kaggle:nmata010/overhead-potholes-test-set-v1`",
                "23 frames of one clip: intervals hold for this recording, and the report says so",
                (
                    KAGGLE,
                    "test_hypotheses.py::test_one_labelled_video_is_enough_for_a_verdict_about_that_video",
                ),
            ),
        ),
    ),
    Section(
        "what the template cannot do",
        (
            Row(
                "evaluate by domain",
                "`shiftscope report --real-world A --real-world B`",
                "",
                ("test_main_job.py::test_slices_equal_pycocotools",),
            ),
            Row(
                "sweep thresholds",
                "the report's slider in the section on thresholds",
                "",
                ("test_diagnostics.py::test_sweep_equals_scoring_filtered_detections",),
            ),
            Row(
                "keep predictions and embeddings",
                "`runs/` stores both; a second report runs no inference",
                "",
                ("test_forward.py::test_each_image_takes_one_forward_call_and_none_the_second_time",),
            ),
            Row(
                "compare two runs",
                "`shiftscope report --run NEW`, `--before OLD`",
                "",
                ("test_command_line.py::test_a_report_compares_with_an_earlier_run",),
            ),
            Row(
                "diagnose and report",
                "`shiftscope report`",
                "",
                ("test_main_job.py::test_it_finds_the_cause_that_was_built_in_and_no_other",),
            ),
            Row(
                "keep two runs",
                "every training has its own folder",
                "",
                ("test_training.py::test_two_trainings_started_together_get_different_folders",),
            ),
        ),
    ),
)


def untested() -> list[Row]:
    """Rows with a counterpart and without a test."""
    return [row for section in SECTIONS for row in section.rows if row.here and not row.tests]


def page() -> str:
    """docs/from-the-template.md."""
    out = io.StringIO()
    rows = sum(len(section.rows) for section in SECTIONS)
    out.write(INTRODUCTION.format(rows=rows))
    out.write("| | with the template | here |\n|---|---|---|\n")
    for purpose, template, here in MOVING:
        out.write(f"| {purpose} | {as_code(template)} | {as_code(here)} |\n")
    out.write(
        "\n## One by one\n\nWhere the second column is empty, Shiftscope does not offer the feature; the "
        "third "
        "column names an alternative.\n"
    )
    for section in SECTIONS:
        out.write(
            f"\n### {section.title}\n\n| the template | here | remark | tested by |\n|---|---|---|---|\n"
        )
        for row in section.rows:
            tests = "; ".join(f"`{name}`" for name in row.tests)
            out.write(f"| {row.template} | {row.here} | {row.remark} | {tests} |\n")
    return out.getvalue()


INTRODUCTION = """# From the YOLO training template

For users of the public YOLO training template (mfranzon/yolo-training-template): its command lines beside
those of Shiftscope, and then each of its options, functions, notebook cells, pages, scripts, documents and
example datasets, {rows} rows, with the counterpart here. The table is `tests/template_table.py`;
`python -m tests.template_table` writes this page.

## Moving over

`make setup` installs everything. `shiftscope` is `.venv/bin/shiftscope`. A SOURCE is a `data.yaml`, a folder
in any layout, a video, a COCO json, a list of images or `kaggle:owner/dataset`. Runs of the template are
Ultralytics run folders, which every command reads.

"""


def as_code(text: str) -> str:
    """A command line as Markdown code; other text unchanged."""
    return f"`{text}`" if text.startswith(("python ", "streamlit ", "shiftscope ")) else text


if __name__ == "__main__":
    (ROOT / "docs" / "from-the-template.md").write_text(page(), encoding="utf-8")
