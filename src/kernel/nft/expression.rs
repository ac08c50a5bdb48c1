//! Names and attributes of the kernel's expressions.

use crate::kernel::netlink::Attributes;

use super::constants::{DATA_VERDICT, expression as nfta, verdict as nfta_verdict};
use super::encode::data;
use super::instruction::Instruction;
use super::lower::nfproto;
use super::rule::Verdict;

/// The name that the kernel knows an instruction by.
pub(super) fn name(instruction: &Instruction) -> &'static str {
    match instruction {
        Instruction::LoadPayload { .. } => "payload",
        Instruction::LoadMeta { .. } => "meta",
        Instruction::LoadConntrack { .. } => "ct",
        Instruction::LoadSourceType { .. } => "fib",
        Instruction::LoadConstant { .. } | Instruction::Verdict(_) => "immediate",
        Instruction::Compare { .. } => "cmp",
        Instruction::Mask { .. } => "bitwise",
        Instruction::Lookup { .. } => "lookup",
        Instruction::Counter => "counter",
        Instruction::DestinationNat { .. } => "nat",
        Instruction::Masquerade { .. } => "masq",
        Instruction::Reject(_) => "reject",
    }
}

/// The attributes of an instruction.
pub(super) fn encode(message: &mut Attributes<'_>, instruction: &Instruction) {
    match instruction {
        Instruction::LoadPayload { header, offset, len, to } => {
            message.u32_be(nfta::PAYLOAD_TO, to.number());
            message.u32_be(nfta::PAYLOAD_BASE, header.number());
            message.u32_be(nfta::PAYLOAD_OFFSET, *offset);
            message.u32_be(nfta::PAYLOAD_LEN, *len);
        }
        Instruction::LoadMeta { key, to } => {
            message.u32_be(nfta::META_TO, to.number());
            message.u32_be(nfta::META_KEY, key.number());
        }
        Instruction::LoadConntrack { key, to } => {
            message.u32_be(nfta::CT_TO, to.number());
            message.u32_be(nfta::CT_KEY, key.number());
            if let Some(direction) = key.direction() {
                message.bytes(nfta::CT_DIRECTION, &[direction]);
            }
        }
        Instruction::LoadSourceType { to } => {
            message.u32_be(nfta::FIB_TO, to.number());
            message.u32_be(nfta::FIB_RESULT, nfta::FIB_RESULT_ADDRESS_TYPE);
            message.u32_be(nfta::FIB_FLAGS, nfta::FIB_FLAG_SOURCE);
        }
        Instruction::LoadConstant { value, to } => {
            message.u32_be(nfta::IMMEDIATE_TO, to.number());
            data(message, nfta::IMMEDIATE_DATA, value);
        }
        Instruction::Compare { register, how, value } => {
            message.u32_be(nfta::COMPARE_FROM, register.number());
            message.u32_be(nfta::COMPARE_HOW, how.number());
            data(message, nfta::COMPARE_DATA, value);
        }
        Instruction::Mask { register, bits } => {
            message.u32_be(nfta::BITWISE_FROM, register.number());
            message.u32_be(nfta::BITWISE_TO, register.number());
            message.u32_be(nfta::BITWISE_LEN, bits.len() as u32);
            data(message, nfta::BITWISE_MASK, bits);
            data(message, nfta::BITWISE_XOR, &vec![0; bits.len()]);
        }
        Instruction::Lookup { set, key, negated, value } => {
            message.text(nfta::LOOKUP_SET, &set.to_string());
            message.u32_be(nfta::LOOKUP_FROM, key.number());
            if let Some(value) = value {
                message.u32_be(nfta::LOOKUP_TO, value.number());
            }
            if *negated {
                message.u32_be(nfta::LOOKUP_FLAGS, nfta::LOOKUP_FLAG_INVERT);
            }
        }
        Instruction::Counter => {}
        Instruction::Verdict(verdict) => {
            message.u32_be(nfta::IMMEDIATE_TO, nfta_verdict::REGISTER);
            message.nest(nfta::IMMEDIATE_DATA, |message| {
                message.nest(DATA_VERDICT, |message| encode_verdict(message, *verdict));
            });
        }
        Instruction::DestinationNat { family, address, port } => {
            message.u32_be(nfta::NAT_TYPE, nfta::NAT_TYPE_DESTINATION);
            message.u32_be(nfta::NAT_FAMILY, nfproto(*family).into());
            message.u32_be(nfta::NAT_ADDRESS, address.number());
            if let Some(port) = port {
                message.u32_be(nfta::NAT_PORT, port.number());
            }
        }
        Instruction::Masquerade { flags, ports } => {
            message.u32_be(nfta::MASQUERADE_FLAGS, *flags);
            if let Some((first, last)) = ports {
                message.u32_be(nfta::MASQUERADE_FIRST_PORT, first.number());
                message.u32_be(nfta::MASQUERADE_LAST_PORT, last.number());
            }
        }
        Instruction::Reject(refusal) => {
            let (kind, code) = refusal.numbers();
            message.u32_be(nfta::REJECT_TYPE, kind);
            message.bytes(nfta::REJECT_CODE, &[code]);
        }
    }
}

fn encode_verdict(message: &mut Attributes<'_>, verdict: Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (nfta_verdict::DROP, None),
        Verdict::Accept => (nfta_verdict::ACCEPT, None),
        Verdict::Jump(chain) => (nfta_verdict::JUMP, Some(chain)),
        Verdict::Goto(chain) => (nfta_verdict::GOTO, Some(chain)),
    };
    message.u32_be(nfta_verdict::CODE, code);
    if let Some(chain) = chain {
        message.text(nfta_verdict::CHAIN, chain);
    }
}
