import { readFile } from 'node:fs/promises';
import protobuf from 'protobufjs/minimal.js';

/** What an ONNX file says of itself, beside its graph. */
export interface ModelFile {
  readonly producer: string;
  /** Version of each operator set, by its domain; `ai.onnx` is ONNX itself. */
  readonly opsets: Readonly<Record<string, number>>;
}

/** Fields of ModelProto and OperatorSetIdProto, by the ONNX specification. */
const PRODUCER_NAME = 2;
const OPSET_IMPORT = 8;
const DOMAIN = 1;
const VERSION = 2;

/** @returns undefined for what is no ONNX file (the ORT format, for one, has no such fields) or is too large to be read whole. */
export async function readModelFile(path: string): Promise<ModelFile | undefined> {
  const bytes = await readFile(path).catch(() => undefined);
  if (bytes === undefined) return undefined;
  const reader = protobuf.Reader.create(bytes);
  let producer = '';
  const opsets: Record<string, number> = {};
  try {
    eachField(reader, reader.len, (field) => {
      if (field === PRODUCER_NAME) producer = reader.string();
      else if (field === OPSET_IMPORT) readOpset(reader, opsets);
      else return false;
      return true;
    });
  } catch {
    return undefined;
  }
  return Object.keys(opsets).length === 0 ? undefined : { producer, opsets };
}

function readOpset(reader: protobuf.Reader, opsets: Record<string, number>): void {
  let domain = '';
  let version = 0;
  eachField(reader, reader.uint32() + reader.pos, (field) => {
    if (field === DOMAIN) domain = reader.string();
    else if (field === VERSION) version = Number(reader.int64());
    else return false;
    return true;
  });
  opsets[domain || 'ai.onnx'] = version;
}

/** Calls back for each field up to `end`; those that it does not read are skipped. */
function eachField(reader: protobuf.Reader, end: number, read: (field: number) => boolean): void {
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (!read(tag >>> 3)) reader.skipType(tag & 7);
  }
}
