import { basename } from 'node:path';
import { check, satisfies } from '../../common/checks.js';
import { InfermuxError, show, showNames } from '../../common/errors.js';
import { tooLong } from '../../common/files/read-file.js';
import { type Bytes, bytesOf, isBytes } from '../../common/values/realm.js';
import { MOST_MANIFEST_BYTES, parseManifest } from '../sources/manifest.js';
import { isNamedByFolder, MANIFEST, versionOf } from '../sources/model-folder.js';
import { checkFileName } from './file-names.js';

/** A model's files by name, `/` between folders: `model.onnx` and its other files, or `<version>/model.onnx` etc. */
export type ModelFiles = Readonly<Record<string, Bytes | string>>;

/** Each name is compared with all others. */
const MOST_FILES = 1_024;

const isContents = satisfies(
  (value) => typeof value === 'string' || isBytes(value),
  'a Uint8Array or an ArrayBuffer, or a string',
);

/**
 * Checks and copies the files of a deploy.
 *
 * @param isVersion whether they are one version of a model; otherwise they may hold folders of versions.
 * @throws InfermuxError `INVALID_ARGUMENT` for names that lead out of the folder, a bad manifest, or no model file.
 */
export function readFiles(files: unknown, isVersion: boolean): Map<string, Uint8Array> {
  // A view has a key for each element.
  if (files === null || typeof files !== 'object' || Array.isArray(files) || ArrayBuffer.isView(files)) {
    throw new InfermuxError('INVALID_ARGUMENT', `files must be an object of bytes by file name, got ${show(files)}`);
  }
  const read = new Map<string, Uint8Array>();
  const entries = Object.entries(files);
  if (entries.length > MOST_FILES) {
    throw new InfermuxError('INVALID_ARGUMENT', `files must be at most ${MOST_FILES}, got ${entries.length}`);
  }
  for (const [name, contents] of entries) {
    checkFileName(name);
    check(`file ${show(name)}`, contents, isContents);
    // A copy, so that later changes by the caller are not written.
    const bytes = Buffer.from(isBytes(contents) ? bytesOf(contents) : contents);
    if (basename(name) === MANIFEST) checkManifest(bytes, name);
    read.set(name, bytes);
  }
  checkLayout([...read.keys()], isVersion);
  return read;
}

function checkManifest(bytes: Buffer, name: string): void {
  if (bytes.byteLength > MOST_MANIFEST_BYTES) throw tooLong(name, bytes.byteLength, MOST_MANIFEST_BYTES);
  parseManifest(bytes.toString(), name);
}

function checkLayout(names: readonly string[], isVersion: boolean): void {
  const seen = new Map<string, string>();
  for (const name of names) {
    // On some systems such names are the same file.
    const folded = name.normalize('NFC').toLowerCase();
    const other = seen.get(folded);
    if (other !== undefined)
      throw new InfermuxError('INVALID_ARGUMENT', `files ${show(other)} and ${show(name)} differ in case only`);
    seen.set(folded, name);
    const parent = names.find((one) => name.startsWith(`${one}/`));
    if (parent !== undefined)
      throw new InfermuxError('INVALID_ARGUMENT', `${show(parent)} cannot be a file and a folder`);
  }
  const isModel = (name: string) => {
    const [first = '', second] = name.split('/');
    return (
      isNamedByFolder(name) ||
      (!isVersion &&
        second !== undefined &&
        versionOf(first) !== undefined &&
        isNamedByFolder(name.slice(first.length + 1)))
    );
  };
  if (names.some(isModel)) return;
  const expected = isVersion ? 'model.onnx or model.ort' : 'model.onnx or model.ort, or <version>/model.onnx';
  throw new InfermuxError('INVALID_ARGUMENT', `files must hold a ${expected}; got ${showNames(names)}`);
}
