#include "comm/agreement.hpp"

#include <filesystem>
#include <new>
#include <string>

#include "src/core/error.hpp"

namespace slipway {

void run_collectively(Group& group, const std::function<void()>& work) {
  std::string problem;  // "<status> <message>", empty on success
  const auto set_problem = [&](Fault fault, const char* message) {
    problem = join(static_cast<int>(fault), " ", message);
  };
  try {
    if (work) work();
  } catch (const Error& error) {
    set_problem(error.fault(), error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    set_problem(Fault::kStorage, error.what());
  } catch (const std::bad_alloc&) {
    set_problem(Fault::kDevice, "out of memory: lower train.micro_batch or train.sequence");
  }
  for (const std::string& text : group.all_gather_text(problem)) {
    if (text.empty()) continue;
    const std::size_t space = text.find(' ');
    throw Error(static_cast<Fault>(std::stoi(text.substr(0, space))), text.substr(space + 1));
  }
}

}  // namespace slipway
