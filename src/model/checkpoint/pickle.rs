//! Python's pickle format, read without running anything: objects of other classes than containers, numbers and texts
//! become [`Node::Object`], which keeps the name of the class and what it was made from.
//!
//! The machine is that of Python's `pickletools` documentation, protocols 0 to 5, without the opcodes of protocol 0 that
//! write numbers and texts as lines (`torch.save` never did). Every opcode makes at most one node and nodes refer to
//! each other by number, so memory is bounded by the length of the text, and neither depth nor cycles matter.

use crate::error::{Result, invalid};
use std::collections::HashMap;

/// Number of a node.
pub(super) type Id = usize;

/// A Python object.
#[derive(Clone, Debug)]
pub(super) enum Node<'a> {
    /// None, floats, bytes and what else nobody asks for.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// Tuple, list or set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by its full name.
    Global(&'a str, &'a str),
    /// What calling a global with arguments gives.
    Object {
        callable: Id,
        arguments: Id,
    },
    /// An object kept outside of the pickle.
    Persistent(Id),
}

/// All nodes of a pickle, and which of them it is about.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) root: Id,
}

/// Longest pickle that is read: names and shapes of some hundred thousand tensors.
const MAX_LENGTH: usize = 64 << 20;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

/// Reads the pickle that `bytes` begin with; also how long it is. `label` names it in errors.
///
/// # Errors
/// When it is truncated, damaged or uses an opcode that `torch.save` does not write.
pub(super) fn read<'a>(bytes: &'a [u8], label: &str) -> Result<(Pickle<'a>, usize)> {
    let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
    let mut machine = Machine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok((Pickle { nodes: machine.nodes, root }, machine.at)),
            Err(Trouble::End) if bytes.len() == MAX_LENGTH => {
                invalid!("{label}: the pickle is longer than {MAX_LENGTH} bytes; save only the state dict")
            }
            Err(Trouble::End) => {
                invalid!(
                    "{label}: the pickle is truncated: an opcode at byte {at} of {} has no end",
                    bytes.len()
                )
            }
            Err(Trouble::Stack) => {
                invalid!("{label}: the pickle is damaged: the opcode at byte {at} finds too few values")
            }
            Err(Trouble::Opcode(code)) => invalid!(
                "{label}: byte {at} of the pickle is 0x{code:02x}, an opcode that torch.save does not write; save \
                 model.state_dict() with torch.save or safetensors"
            ),
            Err(Trouble::Text) => {
                invalid!("{label}: the pickle is damaged: the text at byte {at} is not UTF-8")
            }
        }
    }
}

enum Trouble {
    End,
    Stack,
    Text,
    Opcode(u8),
}

type Step<T> = std::result::Result<T, Trouble>;

impl<'a> Machine<'a> {
    fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| Trouble::End)?;
        let end = self.at.checked_add(len).ok_or(Trouble::End)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Trouble::End)?;
        self.at = end;
        Ok(bytes)
    }

    /// A little-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Step<u64> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N as u64)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn text(&mut self, len: u64) -> Step<&'a str> {
        std::str::from_utf8(self.take(len)?).map_err(|_| Trouble::Text)
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or(Trouble::End)?;
        let text = self.text(len as u64)?;
        self.at += 1;
        Ok(text)
    }

    fn push(&mut self, node: Node<'a>) {
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
    }

    fn pop(&mut self) -> Step<Id> {
        match self.stack.len() > self.marks.last().copied().unwrap_or(0) {
            true => self.stack.pop().ok_or(Trouble::Stack),
            false => Err(Trouble::Stack),
        }
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or(Trouble::Stack)
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or(Trouble::Stack)?;
        if mark > self.stack.len() {
            return Err(Trouble::Stack);
        }
        Ok(self.stack.split_off(mark))
    }

    fn sequence(&mut self, count: usize) -> Step<()> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Node::Sequence(items));
        Ok(())
    }

    /// Adds `items` to the sequence on the stack; objects with methods of their own swallow them.
    fn extend(&mut self, items: Vec<Id>) -> Step<()> {
        let target = self.top()?;
        if let Node::Sequence(list) = &mut self.nodes[target] {
            list.extend(items);
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let target = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Trouble::Stack);
        }
        if let Node::Dict(dict) = &mut self.nodes[target] {
            dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    /// Calls the global under its arguments: containers come to be, everything else stays a description.
    fn call(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let node = match self.nodes[callable] {
            Node::Global("collections", "OrderedDict") => Node::Dict(Vec::new()),
            // A size is the tuple it was made from.
            Node::Global("torch", "Size") => match self.nodes[arguments] {
                Node::Sequence(ref items) if items.len() == 1 => {
                    self.stack.push(items[0]);
                    return Ok(());
                }
                _ => Node::Object { callable, arguments },
            },
            _ => Node::Object { callable, arguments },
        };
        self.push(node);
        Ok(())
    }

    fn memoize(&mut self, key: u64) -> Step<()> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        let id = self.memo.get(&key).copied().ok_or(Trouble::Stack)?;
        self.stack.push(id);
        Ok(())
    }

    /// Runs one opcode; the root at the end.
    fn step(&mut self) -> Step<Option<Id>> {
        let code = self.take(1)?[0];
        match code {
            0x80 => drop(self.take(1)?),               // PROTO
            0x95 => drop(self.take(8)?),               // FRAME
            b'(' => self.marks.push(self.stack.len()), // MARK
            b'0' => drop(self.pop()?),                 // POP
            b'1' => drop(self.marked()?),              // POP_MARK
            b'2' => self.stack.push(self.top()?),      // DUP
            b'N' | b']' | b')' | 0x8f | b'}' => self.push(match code {
                b'N' => Node::Other,
                b'}' => Node::Dict(Vec::new()),
                _ => Node::Sequence(Vec::new()), // EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET
            }),
            0x88 | 0x89 => self.push(Node::Bool(code == 0x88)),
            b'J' => {
                let number = self.number::<4>()? as u32 as i32;
                self.push(Node::Int(number.into()));
            }
            b'K' => {
                let number = self.number::<1>()?;
                self.push(Node::Int(number as i64));
            }
            b'M' => {
                let number = self.number::<2>()?;
                self.push(Node::Int(number as i64));
            }
            0x8a | 0x8b => {
                let len = if code == 0x8a { self.number::<1>()? } else { self.number::<4>()? };
                let bytes = self.take(len)?;
                self.push(long(bytes));
            }
            b'G' => {
                self.take(8)?;
                self.push(Node::Other);
            }
            b'X' | 0x8c | 0x8d => {
                let len = match code {
                    b'X' => self.number::<4>()?,
                    0x8c => self.number::<1>()?,
                    _ => self.number::<8>()?,
                };
                let text = self.text(len)?;
                self.push(Node::Text(text));
            }
            // BINSTRING and SHORT_BINSTRING: texts of Python 2.
            b'T' | b'U' => {
                let len = if code == b'T' { self.number::<4>()? } else { self.number::<1>()? };
                let bytes = self.take(len)?;
                self.push(std::str::from_utf8(bytes).map_or(Node::Other, Node::Text));
            }
            // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'B' | b'C' | 0x8e | 0x96 => {
                let len = match code {
                    b'B' => self.number::<4>()?,
                    b'C' => self.number::<1>()?,
                    _ => self.number::<8>()?,
                };
                self.take(len)?;
                self.push(Node::Other);
            }
            b't' | b'l' | 0x91 => {
                let items = self.marked()?; // TUPLE, LIST, FROZENSET
                self.push(Node::Sequence(items));
            }
            b'd' => {
                let items = self.marked()?;
                self.push(Node::Dict(Vec::new()));
                self.set_items(&items)?;
            }
            0x85..=0x87 => self.sequence(usize::from(code - 0x84))?, // TUPLE1 … TUPLE3
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.marked()?; // APPENDS, ADDITEMS
                self.extend(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set_items(&items)?;
            }
            b'q' => {
                let key = self.number::<1>()?;
                self.memoize(key)?;
            }
            b'r' => {
                let key = self.number::<4>()?;
                self.memoize(key)?;
            }
            0x94 => self.memoize(self.memo.len() as u64)?,
            b'h' => {
                let key = self.number::<1>()?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.number::<4>()?;
                self.recall(key)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Node::Text(module), Node::Text(name)) = (&self.nodes[module], &self.nodes[name]) else {
                    return Err(Trouble::Stack);
                };
                let node = Node::Global(module, name);
                self.push(node);
            }
            b'R' | 0x81 => self.call()?, // REDUCE, NEWOBJ
            0x92 => {
                self.pop()?; // NEWOBJ_EX: keyword arguments
                self.call()?;
            }
            // BUILD: the state of an object. That of a dictionary is what else hangs on it.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            b'.' => return self.pop().map(Some),
            other => return Err(Trouble::Opcode(other)),
        }
        Ok(None)
    }
}

/// A two's-complement number of any length, if it fits.
fn long<'a>(bytes: &[u8]) -> Node<'a> {
    if bytes.len() > 8 {
        return Node::Other;
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(wide))
}
