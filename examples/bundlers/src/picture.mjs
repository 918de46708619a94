export const one = new Float32Array(64);
for (let y = 1; y < 7; y += 1) one[8 * y + 4] = 16;
