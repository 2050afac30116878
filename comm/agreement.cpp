#include "comm/agreement.hpp"

#include <filesystem>
#include <new>
#include <string>

#include "src/core/error.hpp"

namespace slipway {

void run_collectively(Group& all, const std::function<void()>& work) {
  std::string problem;  // "<status> <message>", empty on success
  const auto note = [&](Fault fault, const char* message) { problem = join(static_cast<int>(fault), " ", message); };
  try {
    if (work) work();
  } catch (const Error& error) {
    note(error.fault(), error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    note(Fault::kStorage, error.what());
  } catch (const std::bad_alloc&) {
    note(Fault::kDevice, "out of memory: lower train.micro_batch or train.sequence");
  }
  for (const std::string& found : all.all_gather_text(problem)) {
    if (found.empty()) continue;
    const std::size_t space = found.find(' ');
    throw Error(static_cast<Fault>(std::stoi(found.substr(0, space))), found.substr(space + 1));
  }
}

}  // namespace slipway
