//! SIMD kernels: faster than the portable cipher on processors that have what they need, and the same to the bit.

#[cfg(target_arch = "x86_64")]
mod vaes;

#[cfg(target_arch = "x86_64")]
pub(crate) use vaes::VaesGcm;

/// Where there is no kernel, there is no key for one.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) enum VaesGcm {}

#[cfg(not(target_arch = "x86_64"))]
impl VaesGcm {
    pub(crate) fn new(_key: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) fn seal(
        &self,
        _nonce: &[u8; 12],
        _aad: &[u8],
        _plain: &[u8],
        _sealed: &mut [u8],
    ) -> [u8; 16] {
        match *self {}
    }

    pub(crate) fn open(&self, _nonce: &[u8; 12], _aad: &[u8], _text: &mut [u8]) -> [u8; 16] {
        match *self {}
    }
}
