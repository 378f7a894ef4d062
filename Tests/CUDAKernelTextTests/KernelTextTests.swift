// Tandem — Apache-2.0

import CUDAKernelText
import Testing

@Suite struct KernelTextTests {
    private let files = (0..<tandem_kernel_file_count()).map { index in
        (name: String(cString: tandem_kernel_file_name(index)), text: String(cString: tandem_kernel_file_text(index)))
    }

    @Test func everyIncludeHasItsFileAndEveryFileIsIncluded() {
        let included = files.flatMap { file in
            file.text.split(separator: "\n").compactMap { line in
                line.hasPrefix("#include ") ? String(line.dropFirst(9).filter { $0 != "\"" }) : nil
            }
        }
        #expect(files.first?.name == "kernels.cu")
        #expect(included.sorted() == files.dropFirst().map(\.name).sorted())
    }

    @Test func textsAreWhole() {
        for file in files {
            #expect(file.text.hasPrefix("// Tandem — Apache-2.0\n"), "\(file.name)")
            #expect(file.text.hasSuffix("\n"), "\(file.name)")
        }
    }

    @Test func beyondTheLastFileThereIsNothing() {
        #expect(String(cString: tandem_kernel_file_name(files.count)).isEmpty)
        #expect(String(cString: tandem_kernel_file_text(files.count)).isEmpty)
    }
}
