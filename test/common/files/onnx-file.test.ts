import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readOnnxFile, readOnnxForm } from '../../../dist/common/files/onnx-file.js';
import { directory, writeFiles } from '../../support/directories.js';
import { externalModel, type OddOutput, oddOutputsModel, scaleModel } from '../../support/onnx-models.js';
import { areSharedModelsHere, SHARED_MODELS } from '../../support/shared-models.js';

const read = (bytes: Uint8Array) => readOnnxFile(join(directory({ 'model.onnx': bytes }), 'model.onnx'));

describe('an ONNX file', () => {
  it('tells its producer and operator sets', async () => {
    expect(await read(scaleModel(2))).toEqual({
      producer: 'infermux native-models',
      opsets: { 'ai.onnx': 17 },
      externalData: [],
      inputs: [{ name: 'x', isTensor: true, type: 'float32' }],
      outputs: [{ name: 'y', isTensor: true, type: 'float32' }],
    });
  });

  it.each<[string, OddOutput, object]>([
    ['a sequence', 'sequence', { isTensor: false, type: undefined }],
    ['an optional', 'optional', { isTensor: false, type: undefined }],
    ['four bits', 'int4', { isTensor: true, type: 'int4' }],
  ])('tells that an output is of %s', async (_, kind, value) => {
    const file = await read(oddOutputsModel([kind], false));
    expect(file?.outputs).toMatchObject([value]);
  });

  it('is malformed when it is cut short or something else; one that is only odd may be one', async () => {
    const form = (bytes: Uint8Array) => readOnnxForm(join(directory({ 'model.onnx': bytes }), 'model.onnx'));
    const whole = scaleModel(2);
    expect(await form(whole.subarray(0, whole.byteLength - 3))).toBe('malformed');
    expect(await form(Uint8Array.of(1, 2, 3, 4))).toBe('malformed');
    expect(await form(new Uint8Array(5_000))).toBe('malformed');
    expect(await form(new Uint8Array(0))).toBe('malformed');
    // A name of 5000 characters is no fault of the file.
    const long = Buffer.concat([Buffer.from([0x12, 0x88, 0x27]), Buffer.alloc(5_000, 'a'), whole]);
    expect(await form(long)).toBe('unknown');
  });

  it('tells which files hold its weights', async () => {
    expect((await read(externalModel('weights/part-1.bin').model))?.externalData).toEqual(['weights/part-1.bin']);
  });

  it('is read without its weights, however large they are', async () => {
    const large = scaleModel(2, 4);
    const { model } = externalModel('weights.bin', 5_000_000);
    expect((await read(model))?.externalData).toEqual(['weights.bin']);
    expect(large.byteLength).toBeLessThan(1_000);
  });

  it('is none when it is something else', async () => {
    expect(await read(new Uint8Array(0))).toBeUndefined();
    expect(await read(new TextEncoder().encode('version https://git-lfs.github.com/spec/v1'))).toBeUndefined();
    // Space taken ahead for a download; field by field it would take minutes.
    expect(await read(new Uint8Array(50_000_000))).toBeUndefined();
  });

  it('that is not there, or that the system cannot read, is an error and no finding', async () => {
    await expect(readOnnxFile('/nowhere/model.onnx')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(readOnnxFile(directory())).rejects.toMatchObject({ code: 'EISDIR' });
  });

  it('is the same whether its contents are read here or were read before', async () => {
    const { model } = externalModel('weights/part-1.bin');
    const path = join(directory({ 'model.onnx': model }), 'model.onnx');
    expect(await readOnnxFile(path, Buffer.from(model))).toEqual(await readOnnxFile(path));
  });

  it('neither throws nor hangs, whatever is in it or wherever it is cut', async () => {
    const root = directory();
    const whole = externalModel('weights.bin', 8).model;
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length), fc.array(change, { maxLength: 8 }), async (length, changes) => {
        const bytes = whole.slice(0, length);
        for (const [at, byte] of changes) if (at < length) bytes[at] = byte;
        writeFiles(root, { 'model.onnx': bytes });
        const path = join(root, 'model.onnx');
        expect(await readOnnxFile(path, Buffer.from(bytes))).toEqual(await readOnnxFile(path));
      }),
      { numRuns: 300 },
    );
  });

  it.skipIf(!areSharedModelsHere)('of the real world is read as well', async () => {
    const model = join(SHARED_MODELS, 'cases', 'super-resolution-10', 'model.onnx');
    expect(await readOnnxFile(model)).toMatchObject({ opsets: { 'ai.onnx': 10 }, externalData: [] });
  });
});
