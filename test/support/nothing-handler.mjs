export function loadModel() {}
