// Runs in the replica: texts become tokens, tokens become vectors, and the vectors of a text become one.
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const read = (name) => JSON.parse(readFileSync(new URL(`models/${name}`, import.meta.url), 'utf8'));
const tokenizer = new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
const PADDING = 0n;

/** Takes what waits in one call: texts of all lengths, which are filled up to the longest. */
export async function handleBatch(texts, context) {
  const encoded = texts.map((text) => tokenizer.encode(text).ids.map(BigInt));
  const length = Math.max(...encoded.map((ids) => ids.length));
  const dims = [texts.length, length];
  const ids = new BigInt64Array(texts.length * length).fill(PADDING);
  const mask = new BigInt64Array(texts.length * length);
  for (const [row, tokens] of encoded.entries()) {
    ids.set(tokens, row * length);
    mask.fill(1n, row * length, row * length + tokens.length);
  }
  const feeds = { input_ids: { dims, data: ids }, attention_mask: { dims, data: mask } };
  const { last_hidden_state: hidden } = await context.run('encoder', feeds);
  return encoded.map((tokens, row) => pooled(hidden, row, tokens.length));
}

/** The mean of a text's vectors, of length 1: the product of two such is how alike they are. */
function pooled({ dims: [, length, width], data }, row, tokens) {
  const sum = new Float32Array(width);
  for (let token = 0; token < tokens; token += 1) {
    const at = (row * length + token) * width;
    for (let index = 0; index < width; index += 1) sum[index] += data[at + index];
  }
  const norm = Math.hypot(...sum);
  return sum.map((value) => value / norm);
}
