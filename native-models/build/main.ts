/** `npm run build:models [id …]`: trains the named models, or all of them, and writes `native-models/<id>/`. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { readDigits } from '../../src/cli/demo/digits.js';
import { buildModel, RECIPES } from './models.js';

const wanted = process.argv.slice(2);
const unknown = wanted.filter((id) => !RECIPES.some((recipe) => recipe.id === id));
if (unknown.length > 0) {
  process.stderr.write(
    `unknown model ${unknown.join(', ')}; expected one of ${RECIPES.map(({ id }) => id).join(', ')}\n`,
  );
  process.exit(2);
}

const digits = readDigits();
for (const recipe of RECIPES) {
  if (wanted.length > 0 && !wanted.includes(recipe.id)) continue;
  const { onnx, manifest } = buildModel(recipe, digits);
  const folder = new URL(`../${recipe.id}/`, import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL('model.onnx', folder), onnx);
  writeFileSync(new URL('model.json', folder), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(new URL('../../LICENSE', import.meta.url), new URL('LICENSE', folder));
  process.stdout.write(`${recipe.id} ${JSON.stringify(manifest.accuracy)}\n`);
}
