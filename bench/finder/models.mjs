// Models for the bench of finders: each is one of its own, and as large as is wished.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const model = readFileSync(new URL('../../native-models/digits-mlp/model.onnx', import.meta.url));

const padding = new Map();

/** Zeros. */
function zeros(bytes) {
  const known = padding.get(bytes) ?? Buffer.alloc(bytes);
  padding.set(bytes, known);
  return known;
}

/** Pieces of the model with this number. It has fields that no reader knows. */
export function piecesOf(index, paddingBytes) {
  const tag = Buffer.alloc(8);
  tag.writeDoubleLE(index);
  const varint = [];
  for (let left = paddingBytes; ; left >>>= 7) {
    varint.push(left > 127 ? (left & 127) | 128 : left);
    if (left <= 127) break;
  }
  return [model, Buffer.from([(14 << 3) | 1]), tag, Buffer.from([(15 << 3) | 2, ...varint]), zeros(paddingBytes)];
}

export function hashOf(index, paddingBytes) {
  const hash = createHash('sha256');
  for (const piece of piecesOf(index, paddingBytes)) hash.update(piece);
  return hash.digest('hex');
}
