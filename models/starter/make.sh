#!/bin/sh
# Makes models/starter from nothing: corpus, tokenizer, model, draft, INT4 form, eval. Can be stopped and started again.
#
#     sh models/starter/make.sh [MINUTES [DRAFT_MINUTES]]
#
# Needs python3 with torch and numpy (Debian: python3-torch libopenblas0-pthread) and `npm ci`. Without MINUTES it trains
# on a fixed number of tokens: use that on a GPU, where it takes minutes.
set -eu
cd "$(dirname "$0")/../.."
out=build/starter
python=${PYTHON:-python3}

train() { # shape tokens minutes
  [ -f "$out/$1/training.json" ] || $python models/starter/train.py --data $out --out "$out/$1" --shape "$1" --tokens "$2" ${3:+--minutes "$3"}
}

[ -f $out/train-1024.bin ] || npx tsx models/starter/corpus.ts --out $out --rows 140000 --long-rows 7000
train base 35e6 "${1:-}"
train draft 35e6 "${2:-}"

mkdir -p models/starter/draft
cp $out/calibration.txt models/starter/
for shape in base draft; do
  to=models/starter
  [ $shape = draft ] && to=models/starter/draft
  cp $out/$shape/model.safetensors $out/$shape/config.json $out/$shape/training.json $to/
  cp $out/tokenizer.json $out/tokenizer_config.json $out/special_tokens_map.json $out/generation_config.json $to/
done
npm run --silent build:ts
node dist/src/cli/main.js quantize models/starter --out models/starter/awq --group-size 64 --calib-tokens 16384 --overwrite
npm run --silent eval:starter -- --json models/starter/eval.json
