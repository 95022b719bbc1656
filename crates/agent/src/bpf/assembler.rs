//! Just enough of an assembler for BPF: instructions of 8 bytes, and labels ahead and behind.

/// A register.
#[derive(Clone, Copy)]
pub(super) struct Register(u8);

pub(super) const R0: Register = Register(0);
pub(super) const R1: Register = Register(1);
pub(super) const R2: Register = Register(2);
pub(super) const R3: Register = Register(3);
pub(super) const R4: Register = Register(4);
pub(super) const R5: Register = Register(5);
/// Kept over calls.
pub(super) const R6: Register = Register(6);
pub(super) const R7: Register = Register(7);
pub(super) const R8: Register = Register(8);
pub(super) const R9: Register = Register(9);
/// The end of the stack, which lies below it.
pub(super) const STACK: Register = Register(10);

/// A place to jump to.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<[u8; 8]>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label that is placed later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label here.
    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    fn emit(&mut self, code: u8, to: Register, from: Register, offset: i16, number: i32) {
        let registers =
            if cfg!(target_endian = "little") { from.0 << 4 | to.0 } else { to.0 << 4 | from.0 };
        let [o0, o1] = offset.to_ne_bytes();
        let [n0, n1, n2, n3] = number.to_ne_bytes();
        self.code.push([code, registers, o0, o1, n0, n1, n2, n3]);
    }

    fn emit_jump(&mut self, code: u8, register: Register, number: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(code, register, R0, 0, number);
    }

    /// `to = from`, 64 bits.
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.emit(0xbf, to, from, 0, 0);
    }

    /// `to = number`, 32 bits.
    pub(super) fn set(&mut self, to: Register, number: i32) {
        self.emit(0xb4, to, R0, 0, number);
    }

    /// `to += number`, 64 bits.
    pub(super) fn add(&mut self, to: Register, number: i32) {
        self.emit(0x07, to, R0, 0, number);
    }

    /// `to &= number`, 32 bits.
    pub(super) fn and(&mut self, to: Register, number: i32) {
        self.emit(0x54, to, R0, 0, number);
    }

    /// `to |= from`, 32 bits.
    pub(super) fn or(&mut self, to: Register, from: Register) {
        self.emit(0x4c, to, from, 0, 0);
    }

    /// `to <<= number`, 32 bits.
    pub(super) fn shift_left(&mut self, to: Register, number: i32) {
        self.emit(0x64, to, R0, 0, number);
    }

    /// `to` = the map that this process knows by a descriptor.
    pub(super) fn map(&mut self, to: Register, fd: i32) {
        self.emit(0x18, to, R1, 0, fd);
        self.emit(0, R0, R0, 0, 0);
    }

    /// `to = memory[from + offset]`, 32 bits.
    pub(super) fn load(&mut self, to: Register, from: Register, offset: i16) {
        self.emit(0x61, to, from, offset, 0);
    }

    /// `to = memory[from + offset]`, 64 bits.
    pub(super) fn load_pointer(&mut self, to: Register, from: Register, offset: i16) {
        self.emit(0x79, to, from, offset, 0);
    }

    /// `memory[to + offset] = from`, 32 bits.
    pub(super) fn store(&mut self, to: Register, offset: i16, from: Register) {
        self.emit(0x63, to, from, offset, 0);
    }

    /// `memory[to + offset] = from`, 16 bits.
    pub(super) fn store_half(&mut self, to: Register, offset: i16, from: Register) {
        self.emit(0x6b, to, from, offset, 0);
    }

    /// `memory[to + offset] = from`, 64 bits.
    pub(super) fn store_wide(&mut self, to: Register, offset: i16, from: Register) {
        self.emit(0x7b, to, from, offset, 0);
    }

    /// `memory[to + offset] = number`, 32 bits.
    pub(super) fn store_number(&mut self, to: Register, offset: i16, number: i32) {
        self.emit(0x62, to, R0, offset, number);
    }

    /// Jumps when the lower 32 bits are equal. A comparison of 64 bits would extend the number's
    /// sign.
    pub(super) fn jump_if(&mut self, register: Register, number: i32, to: Label) {
        self.emit_jump(0x16, register, number, to);
    }

    /// Jumps when the lower 32 bits differ.
    pub(super) fn jump_unless(&mut self, register: Register, number: i32, to: Label) {
        self.emit_jump(0x56, register, number, to);
    }

    /// Jumps when the lower 32 bits of both are equal.
    pub(super) fn jump_if_same(&mut self, register: Register, other: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(0x1e, register, other, 0, 0);
    }

    /// Jumps when a pointer is none.
    pub(super) fn jump_if_null(&mut self, register: Register, to: Label) {
        self.emit_jump(0x15, register, 0, to);
    }

    /// Jumps when `register > other`, 64 bits.
    pub(super) fn jump_if_greater(&mut self, register: Register, other: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(0x2d, register, other, 0, 0);
    }

    /// Jumps.
    pub(super) fn jump(&mut self, to: Label) {
        self.emit_jump(0x05, R0, 0, to);
    }

    /// Calls a helper of the kernel.
    pub(super) fn call(&mut self, helper: i32) {
        self.emit(0x85, R0, R0, 0, helper);
    }

    /// Returns R0.
    pub(super) fn exit(&mut self) {
        self.emit(0x95, R0, R0, 0, 0);
    }

    /// The program's bytes, its jumps resolved.
    pub(super) fn finish(mut self) -> Vec<u8> {
        for (from, label) in self.jumps {
            let to = self.labels[label.0].expect("every label is placed before the program ends");
            let distance = to.cast_signed() - from.cast_signed() - 1;
            let distance = i16::try_from(distance).expect("programs are a few dozen instructions");
            self.code[from][2..4].copy_from_slice(&distance.to_ne_bytes());
        }
        self.code.concat()
    }
}
