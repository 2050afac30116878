// The terminal at standard error: whether a line can be redrawn there, and how wide it is.
#pragma once

#include <string>
#include <string_view>

namespace slipway {

/// Whether standard error is a terminal that understands the sequences which redraw a line (TERM is not dumb).
bool can_redraw();

/// Columns of the terminal at standard error: COLUMNS where it is set, else what the terminal reports, else 80.
/// 0 (unlimited) where it is no terminal and COLUMNS is not set.
int terminal_columns();

/// Columns of a line that is redrawn: one less, since a cursor beyond the last one stands on the next line. 0: no
/// limit.
int redrawn_columns();

/// The longest prefix of `line` that takes at most `columns` columns and ends between characters; 0: all of it.
std::string_view clip_to_columns(std::string_view line, int columns);

/// `text` as it may stand in a sentence on a terminal. Bytes that are no UTF-8, control characters other than line ends
/// and tabs, and characters that turn the direction of writing become `\xHH`: names and texts from files must not move
/// a cursor, colour a screen or hide what is written.
std::string printable(std::string_view text);

}  // namespace slipway
