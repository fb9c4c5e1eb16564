/**
 * Memory of bytes that nobody needs any more, given back at once. A collection comes for the heap's sake, and
 * what buffers hold beside it may be many times that.
 *
 * @param bytes not to be used again, nor anything else of their buffer; those of the pool that small
 *   buffers share stay
 */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
