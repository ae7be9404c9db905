import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'

/** What a sealed text is: each has a key of its own, so that one can never be opened as another. */
export type SealPurpose = 'address' | 'message'

/** What the settling transaction needs to write messages; plain data, so that a worker thread can be given it. */
export interface NotifySecrets {
  /** 32 bytes from SECRET_KEY. */
  readonly secretKey: Uint8Array
}

export interface Sealer {
  /** Encrypts a text for the row `id`; the same text gives another ciphertext each time. */
  seal(purpose: SealPurpose, id: string, text: string): Buffer
  /** @throws Error where the bytes were not sealed for this purpose and row under this key */
  open(purpose: SealPurpose, id: string, sealed: Uint8Array): string
  /** Finds an address again without decrypting; differs between utilities, so that they cannot be joined by it. */
  hashAddress(utilityId: number, channel: string, address: string): Buffer
  /** Hash of a contact's verification code. */
  hashCode(contactId: string, code: string): Buffer
}

// First byte of a sealed text: the layout, so that keys and ciphers can change later.
const LAYOUT = 1
const NONCE = 12
const TAG = 16

/** AES-256-GCM and HMAC-SHA-256 under keys that are derived (HKDF-SHA-256) from the installation's secret. */
export function createSealer({ secretKey }: NotifySecrets): Sealer {
  if (secretKey.byteLength < 32) throw new RangeError('the secret key has fewer than 32 bytes')
  const derive = (use: string): Buffer => Buffer.from(hkdfSync('sha256', secretKey, '', `meterline/${use}/1`, 32))
  const keys: Readonly<Record<SealPurpose, Buffer>> = { address: derive('contact-address'), message: derive('message') }
  const addressKey = derive('contact-address-hash')
  const codeKey = derive('contact-code')
  return {
    seal(purpose, id, text) {
      const nonce = randomBytes(NONCE)
      const cipher = createCipheriv('aes-256-gcm', keys[purpose], nonce)
      // The row's id is authenticated: a ciphertext moved to another row does not open.
      cipher.setAAD(Buffer.from(id))
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return Buffer.concat([Buffer.of(LAYOUT), nonce, body, cipher.getAuthTag()])
    },
    open(purpose, id, sealed) {
      if (sealed.byteLength < 1 + NONCE + TAG || sealed[0] !== LAYOUT) throw new Error('not a sealed text')
      const decipher = createDecipheriv('aes-256-gcm', keys[purpose], sealed.subarray(1, 1 + NONCE))
      decipher.setAAD(Buffer.from(id))
      decipher.setAuthTag(sealed.subarray(-TAG))
      return decipher.update(sealed.subarray(1 + NONCE, -TAG), undefined, 'utf8') + decipher.final('utf8')
    },
    hashAddress(utilityId, channel, address) {
      // Providers treat the local part without regard to case, so limits per address do too.
      return createHmac('sha256', addressKey).update(`${utilityId}\n${channel}\n${address.toLowerCase()}`).digest()
    },
    hashCode(contactId, code) {
      return createHmac('sha256', codeKey).update(`${contactId}\n${code}`).digest()
    },
  }
}
