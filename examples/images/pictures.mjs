import sharp from 'sharp';

const SIDE = 224;
/** What models that were trained on ImageNet expect of red, green and blue. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/**
 * Decodes a picture, and writes it into memory that the replicas see: nothing is copied after that.
 *
 * @returns a tensor of float32 [1, 3, 224, 224].
 */
export async function readPicture(engine, file) {
  const { data } = await sharp(file)
    .resize(SIDE, SIDE, { fit: 'cover' })
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const tensor = engine.allocate('float32', [1, 3, SIDE, SIDE]);
  const plane = SIDE * SIDE;
  for (let pixel = 0; pixel < plane; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      const value = data[3 * pixel + channel] / 255;
      tensor.data[channel * plane + pixel] = (value - MEAN[channel]) / DEVIATION[channel];
    }
  }
  return tensor;
}

/** The classes with the highest scores. */
export function best(scores, count = 5) {
  return Array.from(scores, (score, index) => ({ index, score }))
    .sort((left, right) => right.score - left.score)
    .slice(0, count);
}
