/** Memory of its own: a message would otherwise carry the whole pool that small buffers share. */
import type { HsmMaterial } from './port.ts';

export function exact(bytes: Uint8Array): Uint8Array;
export function exact(bytes: Uint8Array | undefined): Uint8Array | undefined;
export function exact(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : new Uint8Array(bytes);
}

export function exactMaterial<Material extends HsmMaterial>(material: Material): Material {
  const check = exact(material.check);
  return material.custody === 'hsm-wrapped'
    ? { ...material, check, blob: exact(material.blob) }
    : { ...material, check, objectId: exact(material.objectId) };
}
