#!/usr/bin/env bash
# Every command behind the shipped leaderboard, in order of what it is for; each resumes where it stopped.
#   results/make.sh [phantoms|fusion|mail|defended|more|claims|entries]...     (default: all)
#   STORE: folder of the records     DATA_ROOT: real images
# The real images at hand may be copies that are not the published files (--accept-unverified): their rows say so and have no rank.
set -euo pipefail
cd "$(dirname "$0")/.."
store="${STORE:-results-store}" jobs="${JOBS:-2}"
real=(${DATA_ROOT:+--data-root "$DATA_ROOT" --accept-unverified})
pairings=(sartaj-mri+breastmnist breastmnist+pneumoniamnist)

phantoms() { # every victim of the zoo, on phantoms-v1
    medrobust run --benchmark phantoms-v1 --model late,mail,robust-mail,drifa-net --out "$store" --jobs "$jobs"
    medrobust run --benchmark phantoms-v1 --model mail --defense pgd-at,trades --out "$store" --jobs "$jobs"
}

cells() { # cells DATA MODELS DEFENSES ATTACKS TRAIN_SEEDS [OPTION]...: 64 samples at 2/255 and 4/255
    medrobust run --data "$1" --model "$2" --defense "$3" --attack "$4" --train-seed "$5" --preset real --limit 64 \
        --eps 2/255,4/255 --out "$store" --jobs "$jobs" "${real[@]}" "${@:6}"
}

# The question first: how do MAIL and Robust-MAIL stand beside fusion baselines on the same patients? A pass of theirs costs ten of a
# baseline's, so they get one training, and of each attacked sample the passes that the benchmark asks for at least.
fusion() { for data in "${pairings[@]}"; do cells "$data" late,gmu,cross-attention none adaptive,autoattack 1,2; done; }
mail() { for data in "${pairings[@]}"; do cells "$data" robust-mail,mail none adaptive 1 --max-passes 1000; done; }
defended() { for data in "${pairings[@]}"; do cells "$data" late,gmu pgd-at adaptive,autoattack 1,2; done; }
more() { # as far as time allows
    local data
    for data in "${pairings[@]}"; do
        cells "$data" mail,robust-mail pgd-at adaptive 1 --max-passes 1000
        cells "$data" drifa-net none adaptive 1 --max-passes 1000
        cells "$data" early,mmtm,lmf none adaptive,autoattack 1
        cells "$data" late,gmu trades,rpf,jpeg adaptive,autoattack 1
    done
}

claims() { # what the MAIL papers claim against all of that, and against costs at the published sizes
    medrobust cost --preset release --size 128 --out "$store" \
        --model mail,robust-mail,drifa-net,early,late,gmu,mmtm,lmf,cross-attention,unimodal
    medrobust claims --out "$store"
    cp "$store/claims.md" results/claims.md
}

entries() { # what is there: results/*.json, and the table and the page of them
    medrobust submit --out "$store" --to results --about results/about.yaml ${DATA_ROOT:+--accept-unverified} || [ $? = 1 ]
    medrobust leaderboard --from results --out "$store/board"
}

for part in "${@:-phantoms fusion mail defended more claims entries}"; do
    for each in $part; do "$each"; done
done
