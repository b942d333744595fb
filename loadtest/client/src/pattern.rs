//! Reads the frame number out of a picture of the test pattern (`clips/README.md` describes it).
//!
//! It is not a general reader: the picture must fill the frame, at any size from 320×180 on.

/// What a picture says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    /// The frame's number; wraps at the end of the clip.
    pub number: u16,
    /// Who films: 0 is the synthetic participants.
    pub source: u8,
}

/// Why a picture carries no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The picture is smaller than the pattern can be, or the plane is shorter than the size says.
    #[error("picture too small")]
    TooSmall,
    /// Black and white markers are too alike.
    #[error("no contrast between the markers")]
    Contrast,
    /// A marker cell has the wrong colour.
    #[error("a marker is missing")]
    Marker,
    /// The check sum does not fit.
    #[error("check sum")]
    Checksum,
}

const COLUMNS: usize = 20;
const ROWS: usize = 9;
/// Less than this between white and black cannot be told from the noise of a very coarse quantizer.
const CONTRAST_MIN: u32 = 64;
/// Marker cells as (row, column, is white).
const MARKERS: [(usize, usize, bool); 8] = [
    (0, 0, true),
    (0, 1, false),
    (0, 18, false),
    (0, 19, true),
    (1, 0, false),
    (1, 1, true),
    (1, 18, true),
    (1, 19, false),
];

/// Reads the code from a luma plane with `stride` bytes from row to row.
pub fn read(luma: &[u8], stride: usize, width: usize, height: usize) -> Result<Code, Unreadable> {
    let enough = stride >= width
        && stride
            .checked_mul(height)
            .is_some_and(|bytes| luma.len() >= bytes);
    if width < COLUMNS * 4 || height < ROWS * 4 || !enough {
        return Err(Unreadable::TooSmall);
    }
    let mean = |row, column| cell_mean(luma, stride, (width, height), (row, column));
    let marker_mean = |white: bool| {
        let cells = MARKERS.iter().filter(|marker| marker.2 == white);
        cells
            .map(|&(row, column, _)| mean(row, column))
            .sum::<u32>()
            / 4
    };
    let (white, black) = (marker_mean(true), marker_mean(false));
    if white < black + CONTRAST_MIN {
        return Err(Unreadable::Contrast);
    }
    let threshold = white.midpoint(black);
    if MARKERS
        .iter()
        .any(|&(row, column, is_white)| (mean(row, column) > threshold) != is_white)
    {
        return Err(Unreadable::Marker);
    }
    let word = |row| {
        (2..18).fold(0u16, |word, column| {
            word << 1 | u16::from(mean(row, column) > threshold)
        })
    };
    let (number, second) = (word(0), word(1));
    let (source, check) = ((second >> 8) as u8, second as u8);
    if crc8(&[(number >> 8) as u8, number as u8, source]) != check {
        return Err(Unreadable::Checksum);
    }
    Ok(Code { number, source })
}

/// Mean of a 4×4 grid of samples in the middle half of a cell.
fn cell_mean(luma: &[u8], stride: usize, size: (usize, usize), cell: (usize, usize)) -> u32 {
    let mut sum = 0;
    for v in 0..4 {
        // Cell edges times 8, so that the samples lie at 2.5/8, 3.5/8, 4.5/8 and 5.5/8 of the cell.
        let y = (cell.0 * 16 + 5 + 2 * v) * size.1 / (ROWS * 16);
        for u in 0..4 {
            let x = (cell.1 * 16 + 5 + 2 * u) * size.0 / (COLUMNS * 16);
            sum += u32::from(luma[y * stride + x]);
        }
    }
    sum / 16
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| {
            if crc & 0x80 != 0 {
                crc << 1 ^ 0x07
            } else {
                crc << 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with the given two code rows, as `1` and `0`, at black 30 and white 200.
    fn picture(width: usize, height: usize, rows: [&str; 2]) -> Vec<u8> {
        let mut luma = vec![90; width * height];
        for (y, line) in luma.chunks_mut(width).enumerate().take(2 * height / ROWS) {
            let row = rows[(y * ROWS / height).min(1)].as_bytes();
            for (x, pixel) in line.iter_mut().enumerate() {
                *pixel = if row[x * COLUMNS / width] == b'1' {
                    200
                } else {
                    30
                };
            }
        }
        luma
    }

    // The rows are what `make.py` draws for these numbers.
    const NUMBER_77: [&str; 2] = ["10000000000100110101", "01000000001011001010"];
    const NUMBER_299_SOURCE_255: [&str; 2] = ["10000000010010101101", "01111111111010000110"];

    #[test]
    fn reads_what_the_script_draws_at_every_layers_size() {
        for (width, height) in [(1280, 720), (640, 360), (320, 180), (960, 540)] {
            let read = |rows| read(&picture(width, height, rows), width, width, height);
            assert_eq!(
                read(NUMBER_77),
                Ok(Code {
                    number: 77,
                    source: 0
                })
            );
            assert_eq!(
                read(NUMBER_299_SOURCE_255),
                Ok(Code {
                    number: 299,
                    source: 255
                })
            );
        }
    }

    #[test]
    fn refuses_a_flipped_bit() {
        let rows = ["10000000000100110001", NUMBER_77[1]];
        assert_eq!(
            read(&picture(320, 180, rows), 320, 320, 180),
            Err(Unreadable::Checksum)
        );
    }

    #[test]
    fn refuses_a_wrong_marker() {
        let rows = ["11000000000100110101", NUMBER_77[1]];
        assert_eq!(
            read(&picture(320, 180, rows), 320, 320, 180),
            Err(Unreadable::Marker)
        );
    }

    #[test]
    fn refuses_a_grey_picture_and_a_short_plane() {
        assert_eq!(
            read(&[128; 320 * 180], 320, 320, 180),
            Err(Unreadable::Contrast)
        );
        assert_eq!(
            read(&[128; 320 * 179], 320, 320, 180),
            Err(Unreadable::TooSmall)
        );
        assert_eq!(read(&[], 0, 0, 0), Err(Unreadable::TooSmall));
    }
}
