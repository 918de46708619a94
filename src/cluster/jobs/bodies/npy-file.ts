import { type FileHandle, open } from 'node:fs/promises';
import { InfermuxError, show } from '../../../common/errors.js';
import { bytesOfElement, type Datatype } from '../../../open-inference/datatypes.js';

/** The array of a file of NumPy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). */
export interface NpyArray {
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Bytes of each of the rows: of what the first dimension counts. */
  readonly rowBytes: number;
  /** @throws InfermuxError `INVALID_ARGUMENT` for rows that are not there. */
  check(from: number, to: number): void;
  /**
   * Reads rows that are there, the last one not included.
   *
   * @param target memory of their size.
   */
  read(from: number, to: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

const MAGIC = Buffer.of(0x93, ...new TextEncoder().encode('NUMPY'));
const MOST_HEADER = 65_536;

const DATATYPES: Readonly<Record<string, Datatype>> = {
  ...{ b1: 'BOOL', i1: 'INT8', i2: 'INT16', i4: 'INT32', i8: 'INT64', u1: 'UINT8', u2: 'UINT16', u4: 'UINT32' },
  ...{ u8: 'UINT64', f2: 'FP16', f4: 'FP32', f8: 'FP64' },
} satisfies Record<string, Datatype>;

/**
 * Opens a `.npy` file. Its rows are read when they are asked for.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` for a file that cannot be opened; `INVALID_ARGUMENT` for one that is none, or is of
 *   a form that is not read: in Fortran's order, big-endian, or of objects.
 */
export async function openNpy(path: string): Promise<NpyArray> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    const message = `the file ${show(path)} cannot be read: ${(cause as Error).message}`;
    throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
  }
  try {
    return await readNpy(path, file);
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

async function readNpy(path: string, file: FileHandle): Promise<NpyArray> {
  const invalid = (why: string) =>
    new InfermuxError('INVALID_ARGUMENT', `${show(path)} is no .npy file that can be read: ${why}`);
  const start = await readAt(file, 0, 12);
  if (start.length < 12 || !start.subarray(0, 6).equals(MAGIC)) throw invalid('it does not begin as one');
  const major = start[6] as number;
  const headerBytes = major === 1 ? start.readUInt16LE(8) : start.readUInt32LE(8);
  if (headerBytes > MOST_HEADER) throw invalid(`its header has ${headerBytes} bytes`);
  const headerAt = major === 1 ? 10 : 12;
  const header = (await readAt(file, headerAt, headerBytes)).toString('latin1');
  const descr = /'descr':\s*'([<>|=]?)([a-z]\d+)'/.exec(header);
  const [, order = '', kind = ''] = descr ?? [];
  const datatype = DATATYPES[kind];
  if (datatype === undefined)
    throw invalid(`its elements are ${/'descr':\s*([^,]+,?[^,]*),/.exec(header)?.[1] ?? 'of no known type'}`);
  if (order === '>') throw invalid('it is big-endian: save it as little-endian');
  if (/'fortran_order':\s*True/.test(header))
    throw invalid("it is in Fortran's order: save numpy.ascontiguousarray of it");
  const [, dims] = /'shape':\s*\(([^)]*)\)/.exec(header) ?? [];
  const shape = (dims ?? 'x')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '')
    .map(Number);
  if (dims === undefined || shape.length === 0 || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw invalid(`its shape is (${dims ?? '?'}); an array with rows is wanted`);
  }
  const [rows = 0, ...rest] = shape;
  const rowBytes = rest.reduce((product, size) => product * size, bytesOfElement(datatype) as number);
  const { size } = await file.stat();
  const dataAt = headerAt + headerBytes;
  if (size < dataAt + rows * rowBytes)
    throw invalid(`it has ${size} bytes, and its shape needs ${dataAt + rows * rowBytes}`);
  return {
    ...{ datatype, shape, rowBytes },
    check(from, to) {
      const isThere = Number.isSafeInteger(from) && Number.isSafeInteger(to) && from >= 0 && from <= to && to <= rows;
      if (!isThere) throw invalid(`it has ${rows} rows, and rows ${show([from, to])} are asked for`);
    },
    async read(from, to, target) {
      const bytes = (to - from) * rowBytes;
      const filled = await fill(file, dataAt + from * rowBytes, target.subarray(0, bytes));
      if (filled < bytes) throw invalid('it has become shorter');
    },
    close: () => file.close(),
  };
}

async function readAt(file: FileHandle, position: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  return buffer.subarray(0, await fill(file, position, buffer));
}

/** @returns the bytes that were there. */
async function fill(file: FileHandle, position: number, target: Uint8Array): Promise<number> {
  let filled = 0;
  while (filled < target.byteLength) {
    const { bytesRead } = await file.read(target, filled, target.byteLength - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}
