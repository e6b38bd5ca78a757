"""The tools that people download with, one row each.

Rows of ``copier`` say how a tool takes the destination, and which of its options take a value, as
in its own reference: the AWS CLI's ``s3`` commands, Google's gsutil and ``gcloud storage``, s5cmd,
rclone, azcopy, MinIO ``mc`` and rsync.
"""

from __future__ import annotations

from extender.workload.downloads import hubs, own, web
from extender.workload.downloads.arguments import Tool
from extender.workload.downloads.copies import copier, coreutils
from extender.workload.downloads.placing import (
    contents,
    exactly,
    into,
    like_cp,
    like_mc,
    like_rsync,
)

TOOLS: dict[str, Tool] = {
    "hf": hubs.hugging_face,
    "huggingface-cli": hubs.hugging_face,
    "modelscope": hubs.modelscope,
    "model-cache-extender": own.loader_fill,
    "aws": copier(
        {"cp": contents, "sync": contents, "mv": contents},
        "--endpoint-url --region --profile --exclude --include --request-payer --sse --acl "
        "--storage-class --source-region --page-size --cli-read-timeout --cli-connect-timeout "
        "--output --color --ca-bundle --checksum-mode --copy-props",
        group="s3",
        several=False,
    ),
    "s5cmd": copier(
        {"cp": contents, "sync": contents, "mv": contents},
        "--endpoint-url --numworkers --concurrency -c --exclude --include --profile --log "
        "--credentials-file --retry-count -r --part-size -p --source-region",
        several=False,
    ),
    "gsutil": copier(
        {"cp": like_cp, "rsync": contents, "mv": like_cp}, "-o -x -i -u -h -L -j -y", dry={"rsync"}
    ),
    "gcloud": copier(
        {"cp": like_cp, "rsync": contents, "mv": like_cp},
        "--project --account --billing-project --impersonate-service-account --configuration "
        "--verbosity --exclude --format --encryption-key --decryption-keys",
        group="storage",
    ),
    "rclone": copier(
        {"copy": contents, "sync": contents, "move": contents, "copyto": exactly},
        "--transfers --checkers --config --include --exclude --bwlimit --log-level --stats "
        "--retries --buffer-size --multi-thread-streams --filter --filter-from --files-from "
        "--max-depth --timeout --contimeout --low-level-retries --tpslimit --user-agent",
        several=False,
        dry={"copy", "sync", "move", "copyto"},
    ),
    "azcopy": copier(
        {"copy": into, "cp": into, "sync": contents},
        "--log-level --include-pattern --exclude-pattern --include-path --exclude-path "
        "--cap-mbps --block-size-mb --overwrite --output-type --from-to",
        several=False,
    ),
    "mc": copier(
        {"cp": like_mc, "mirror": contents},
        "--config-dir -C --limit-download --limit-upload --exclude --older-than --newer-than",
        aliases=True,
    ),
    "rsync": copier(
        {"": like_rsync},
        "-e --rsh --exclude --include --bwlimit --timeout --exclude-from --chmod",
        dry={""},
    ),
    "cp": coreutils,
    "mv": coreutils,
    "ln": coreutils,
    "git": hubs.git,
    "wget": web.wget,
    "curl": web.curl,
    "ollama": hubs.ollama,
}
